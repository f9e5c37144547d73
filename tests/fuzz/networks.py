"""Genomes from the whole space: built, trained a step, exported and compared with the ONNX graph."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import torch

from parapet.catalogue.genes import GENES
from parapet.catalogue.networks import BACKBONES
from parapet.config import ThreatModel, TrainingConfig
from parapet.data.images import Images
from parapet.deployment import check_parity, export
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build, check_fit, load, save
from parapet.training import TrainingRun, train
from tests.fuzz.mutations import VALUES, json_bytes, twisted
from tests.fuzz.part import Part, demand

SHAPES = ((1, 8, 8), (3, 8, 8), (1, 9, 7), (3, 16, 16), (1, 28, 28), (3, 32, 32), (2, 5, 7), (1, 1, 1), (4, 12, 20))
_MOST_PARAMETERS = 20_000_000


def any_genome(chance: random.Random, widths: tuple[int, ...], depths: tuple[int, ...]) -> dict[str, Any]:
    """The genes of a network that is small enough to run, and of any recipe."""
    genes: dict[str, Any] = {"width": chance.choice(widths), "depth": chance.choice(depths)}
    for gene in GENES.values():
        if gene.name in genes:
            continue
        if gene.known:
            genes[gene.name] = chance.choice(gene.known)
        elif isinstance(gene.choices[0], int):
            genes[gene.name] = chance.choice((*gene.choices, chance.randint(int(gene.low), min(6, int(gene.highest)))))
        else:
            span = chance.choice((gene.low, gene.highest, *gene.choices, chance.uniform(gene.low, gene.highest)))
            genes[gene.name] = chance.choice((span, min(span, 1.0), *gene.choices))
            genes[gene.name] = max(gene.low, genes[gene.name])
    genes["denoiser_stage"] = chance.randint(1, BACKBONES[genes["backbone"]].stages)
    return genes


class _Networks(Part):
    odd = 0.0
    shapes = SHAPES
    widths: tuple[int, ...] = (*range(1, 18), 24, 32)
    depths: tuple[int, ...] = (1, 1, 2, 3)

    def make(self, chance: random.Random) -> bytes:
        """{genome, shape, classes, seed}; a share `odd` of the genomes has been damaged."""
        genes: Any = any_genome(chance, self.widths, self.depths)
        shape, classes = self._shape(chance, genes), chance.choice((2, 3, 10))
        if chance.random() < self.odd:
            genes = twisted(chance, genes, (*VALUES, *filter(None, (gene.highest for gene in GENES.values()))))
        return json_bytes({"genome": genes, "shape": shape, "classes": classes, "seed": chance.randrange(2**31)})

    def _shape(self, chance: random.Random, genes: dict[str, Any]) -> tuple[int, int, int]:
        """Images that the backbone can read."""
        for shape in (shapes := chance.sample(self.shapes, len(self.shapes))):
            try:
                check_fit(Genome.from_dict(genes), shape, 2)
            except InputError:
                continue
            return shape
        return shapes[0]

    def check(self, content: bytes) -> None:
        """Build it, and what the part adds."""
        asked = json.loads(content)
        genome = Genome.from_dict(asked["genome"])
        demand(Genome.from_dict(genome.to_dict()) == genome, "a genome does not come back from its own dict")
        for gene in GENES.values():
            value = getattr(genome, gene.name)
            demand(value in gene.known if gene.known else math.isfinite(value), f"{gene.name} is {value!r}")
        self.use(genome, tuple(asked["shape"]), asked["classes"], asked["seed"])

    def use(self, genome: Genome, shape: tuple[int, int, int], classes: int, seed: int) -> None:
        """What is done with a genome that was accepted."""
        from parapet.models.network import outline

        size = sum(parameter.numel() for parameter in outline(genome, shape, classes).parameters())
        demand(size > 0, "a network has no parameters")
        if size > _MOST_PARAMETERS:
            return  # of a width that was asked for, and is not a matter of seconds
        generator = torch.Generator().manual_seed(seed)
        network = build(genome, shape, classes, generator=generator).eval()
        with torch.no_grad():
            logits = network(torch.rand(2, *shape, generator=generator))
        demand(logits.shape == (2, classes), f"logits have shape {tuple(logits.shape)}")
        demand(bool(torch.isfinite(logits).all()), "logits are not finite")


class Built(_Networks):
    """A quarter of the genomes is damaged; the others have to be built, and run on two images."""

    odd = 0.25


class Trained(_Networks):
    """Every genome is trained for one step, kept and read again."""

    shapes = ((1, 8, 8), (3, 8, 8), (1, 9, 7), (3, 12, 12), (1, 28, 28))
    widths = (*range(1, 9), 12)

    def use(self, genome: Genome, shape: tuple[int, int, int], classes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        images = Images(torch.randint(0, 256, (8, *shape), dtype=torch.uint8, generator=generator),
                        torch.arange(8) % classes, torch.arange(8), 255)
        trained = train(TrainingRun(
            genome=genome, images=images, validation=images, classes=classes, mean=torch.full((shape[0],), 0.5),
            std=torch.full((shape[0],), 0.3), threat=ThreatModel(eps=0.1), seed=seed,
            config=TrainingConfig(epochs=1, batch_size=8, validation_steps=1, validate_every=1)))
        row = trained.curves[-1]
        demand(math.isfinite(row["loss"]), f"the loss of a finished epoch is {row['loss']}")
        save(trained.network, self.folder / "model.safetensors")
        again = load(self.folder / "model.safetensors")
        demand(again.genome == trained.network.genome, "another genome is read than was kept")
        floats = images.images.float() / 255
        with torch.no_grad():
            # Kept in another layout of memory, in which sums are taken in another order.
            demand(torch.allclose(again(floats), trained.network.eval()(floats), rtol=1e-3, atol=1e-3),
                   "other logits are read than were kept")


class Exported(_Networks):
    """Every genome is exported, and the graph computes what the network does."""

    shapes, widths = ((1, 8, 8), (3, 8, 8), (1, 28, 28), (1, 9, 7)), (1, 2, 3, 5, 8, 16, 17)
    depths = (1, 1, 1, 2)
    # A network of many layers takes so long to trace, and is no hang.
    seconds = 60.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.use(Genome(width=2, depth=1).canonical(), (1, 8, 8), 2, 0)  # imports half a minute's worth of modules

    def use(self, genome: Genome, shape: tuple[int, int, int], classes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        network = build(genome, shape, classes, generator=generator).eval()
        export(network, self.folder / "model.onnx", opset=20)
        images = torch.rand(9, *shape, generator=generator)
        # Raises ParityError, a ParapetError, where they differ: for a healthy network that is no refusal.
        try:
            check_parity(network, self.folder / "model.onnx", images, tolerance=1e-3)
        except Exception as error:
            demand(False, f"the graph is another function: {error}")
