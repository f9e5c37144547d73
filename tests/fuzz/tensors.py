"""Safetensors: weights of Parapet, and the checkpoints of a training."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import torch

from parapet.genome import Genome
from parapet.models import build, load, read_metadata, save
from parapet.training import checkpoint
from parapet.training.learner import Learner
from tests.fuzz.mutations import TOKENS, VALUES, damaged, json_bytes, twisted
from tests.fuzz.part import Part, demand

SEEDS = (Genome(width=2, depth=1), Genome(backbone="residual", width=3, depth=1, denoiser="dot_product"),
         Genome(backbone="separable", width=2, depth=1, input_filter="smoothing"),
         Genome(backbone="vit", width=3, depth=1, activation="softplus"), Genome(backbone="wide_resnet", width=1,
                                                                                 depth=1))
_ODD = (*VALUES, 1024, 8192, [1, 8192, 8192], [1024, 8192, 8192], [1, 8, 8, 8], "wide_resnet", "vit", "small_cnn")
# Of an image that a network is asked about; more would take long, and nothing promised that it would not.
_MOST_PIXELS = 50_000


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def joined(header: bytes, data: bytes) -> bytes:
    """A file with this header."""
    return struct.pack("<Q", len(header)) + header + data


class _Files(Part):
    seeds: list[bytes]
    key: str

    def make(self, chance: random.Random) -> bytes:
        """Blows to the bytes, mostly of the header; another header; other metadata."""
        content = chance.choice(self.seeds)
        header, data = parts(content)
        way = chance.random()
        if way < 0.2:
            return damaged(chance, content, self.seeds)
        if way < 0.35:
            return joined(damaged(chance, json.dumps(header).encode(), TOKENS), data)
        if way < 0.6:
            return joined(json_bytes(twisted(chance, header)), data)
        if way < 0.7:
            # Sizes that fit the file, of tensors that fit nothing.
            for entry in chance.sample([entry for name, entry in header.items() if name != "__metadata__"], 1):
                size = math.prod(entry["shape"])
                entry["shape"] = chance.choice(([size], [1, size], [size, 1, 1], [], [0, size],
                                                [*reversed(entry["shape"])]))
                entry["dtype"] = chance.choice((entry["dtype"], "I32", "F16", "U8", "BOOL", "F64"))
            return joined(json_bytes(header), data)
        if way < 0.75:
            place = chance.randrange(0, max(1, len(data) - 4), 4)
            number = struct.pack("<f", chance.choice((math.nan, math.inf, -math.inf, 3e38, 0.0, -1.0)))
            return joined(json_bytes(header), data[:place] + number + data[place + 4:])
        metadata = header["__metadata__"]
        told = twisted(chance, json.loads(metadata[self.key]), _ODD)
        metadata[self.key] = json.dumps(told) if chance.random() < 0.9 else chance.choice(
            ("null", "[]", "{", "NaN", "", "[" * 5000, '{"a": 1, "a": 2}', "1e999"))
        if chance.random() < 0.05:
            header["__metadata__"] = chance.choice(({}, None, {"parapet": ""}, {self.key: None}, []))
        return joined(json_bytes(header), data)


class Weights(_Files):
    """What is accepted gives logits of the shape that it promises, from numbers, and says which genome it is."""

    key = "parapet"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds = []
        for number, genome in enumerate(SEEDS):
            network = build(genome.canonical(), (1, 8, 8), 10, generator=torch.Generator().manual_seed(number))
            save(network.eval(), folder / "seed.safetensors")
            self.seeds.append((folder / "seed.safetensors").read_bytes())

    def check(self, content: bytes) -> None:
        path = self.put("model.safetensors", content)
        network = load(path)
        told = read_metadata(path)
        demand(Genome.from_dict(told["genome"]) == network.genome, "another genome than the metadata say")
        header, _ = parts(content)
        promised = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        demand({name: tuple(value.shape) for name, value in network.state_dict().items()} == promised,
               "other tensors than the file holds")
        demand(all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()), "NaN in the weights")
        if math.prod(network.image_shape) <= _MOST_PIXELS:
            with torch.no_grad():
                logits = network(torch.rand(2, *network.image_shape))
            demand(logits.shape == (2, told["classes"]), f"logits have shape {tuple(logits.shape)}")


class Checkpoints(_Files):
    """A checkpoint is taken up whole, or as if it were not there."""

    key = "parapet"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        learner, generator = self._learner(), torch.Generator().manual_seed(3)
        for parameter in learner.parameters:
            parameter.grad = torch.ones_like(parameter)
        learner.optimiser.step()
        progress = checkpoint.Progress(epoch=2, best_epoch=1, best_robust_accuracy=0.5, curves=[{"epoch": 1,
                                                                                                 "loss": 2.0}],
                                       seconds=3.0, flops=10, good=learner.snapshot(),
                                       best_weights=learner.snapshot()["weights"])
        checkpoint.save(folder / "seed.safetensors", "key", learner, generator, progress)
        self.seeds = [(folder / "seed.safetensors").read_bytes()]
        self.whole = checkpoint.restore(folder / "seed.safetensors", "key", self._learner(), torch.Generator())
        demand(self.whole is not None and self.whole.epoch == 2, "a checkpoint is not taken up")

    @staticmethod
    def _learner() -> Learner:
        network = build(SEEDS[0].canonical(), (1, 8, 8), 4, generator=torch.Generator().manual_seed(0))
        return Learner.of(network, None, learning_rate=0.1, weight_decay=0.0, decay=0.9)

    def check(self, content: bytes) -> None:
        path, learner, generator = self.put("checkpoint.safetensors", content), self._learner(), torch.Generator()
        before = learner.snapshot()["weights"]
        found = checkpoint.restore(path, "key", learner, generator)
        after = learner.snapshot()["weights"]
        if found is None:
            demand(all(torch.equal(value, after[name]) for name, value in before.items()),
                   "a checkpoint that was not taken up changed the network")
        else:
            demand(found.epoch == 2 and found.best_epoch == 1 and found.curves == self.whole.curves,
                   "a changed checkpoint was taken up")
            demand(all(torch.equal(value, self.whole.good["weights"][name]) for name, value in after.items()),
                   "other weights were taken up than were kept")
        checkpoint.peek(path)
