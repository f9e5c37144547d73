"""The search space of networks and training recipes: the choices of each gene, and genomes as integer vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from parapet.catalogue.genes import GENES, Gene
from parapet.catalogue.losses import LOSSES
from parapet.catalogue.networks import BACKBONES
from parapet.errors import InputError
from parapet.genome import FIRST_GENES, Genome, check_choice, nearest_gene, settled
from parapet.quoting import name as named
from parapet.quoting import quote
from parapet.search.space import Space, Vector

# Images of at least this height (pixels) get larger networks and more attack steps, which do not help on smaller ones.
LARGE_FROM = 16
LARGE_CHOICES = {"width": (16, 32, 64, 96), "depth": (1, 2, 3, 4), "steps": (2, 3, 5, 7, 10)}

# The anchors of a first generation: the relative position of each ordered gene, in [0, 1], and the values of unordered
# genes. Genes in `_MIDDLE` stay in the middle, because larger values of them are neither cheaper nor stronger.
_ANCHORS: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.0, {"backbone": "plain", "loss": "trades"}),
    (0.5, {"backbone": "plain", "loss": "trades"}),
    (1.0, {"backbone": "residual", "loss": "trades", "activation": "silu"}),
)
_MIDDLE = ("learning_rate", "eps_ratio", "weight_decay", "clean_share", "denoiser_stage")


class SearchSpace(Space[Genome]):
    """The choices of every gene, and the map between genomes and integer vectors."""

    def __init__(self, overrides: dict[str, list[Any]] | None = None,
                 image_shape: Sequence[int] = (1, 8, 8)) -> None:
        """`overrides` maps names of genes to the choices to search (`search.space` of params.yaml).

        Without an override a gene has the choices of `GENES`, or of `LARGE_CHOICES` where `image_shape` (C, H, W) is
        at least `LARGE_FROM` pixels high. Raises InputError for unknown genes, invalid or repeated choices, and
        denoiser stages that a backbone does not have.
        """
        large = LARGE_CHOICES if image_shape[1] >= LARGE_FROM else {}
        given: dict[str, Sequence[Any]] = {**large, **(overrides or {})}
        for name in given:
            if name not in GENES:
                raise InputError(f"search.space.{named(name)} is not a gene; {nearest_gene(name)}")
        self.genes = tuple(_narrowed(gene, given[gene.name]) if gene.name in given else gene
                           for gene in GENES.values() if gene.name in given or self._is_searched(gene, given))
        self._check_stages()

    @staticmethod
    def _is_searched(gene: Gene, given: Mapping[str, Sequence[Any]]) -> bool:
        """Whether a gene without an override is part of the space. A gene that is not in `FIRST_GENES` is included only
        where a loss of the space uses it, so that an unused plugin does not change the results of a search."""
        losses = (LOSSES[name] for name in given.get("loss", GENES["loss"].choices) if name in LOSSES)
        return gene.name in FIRST_GENES or any(gene.name in loss.genes.values() for loss in losses)

    def _check_stages(self) -> None:
        last, backbones = self.choices("denoiser_stage")[-1], self.choices("backbone")
        shortest = min((BACKBONES[name] for name in backbones), key=lambda backbone: backbone.stages)
        if last > shortest.stages and self.choices("denoiser") != ("none",):
            longer = ", ".join(name for name, backbone in BACKBONES.items() if backbone.stages >= last)
            raise InputError(f"search.space.denoiser_stage lists {last}, and the backbone {shortest.name} has "
                             f"{shortest.stages} stages; list stages up to {shortest.stages}, or backbones with more "
                             f"of them: {longer}.")

    def decode(self, vector: Vector) -> Genome:
        """The canonical genome of a vector of indices, one per gene."""
        values = {gene.name: gene.choices[int(index)] for gene, index in zip(self.genes, vector, strict=True)}
        return Genome.of(settled(values))

    def encode(self, point: Genome) -> np.ndarray:
        """The indices (genes,) of the choices nearest to `point`; genes without effect get index 0."""
        return np.array([_nearest_index(gene, point[gene.name]) for gene in self.genes])

    def anchors(self) -> list[np.ndarray]:
        """Three vectors (genes,): the cheapest, the middle and the strongest point of the space."""
        anchors = []
        for height, values in _ANCHORS:
            vector = np.round(self.upper * height).astype(int)
            for place, gene in enumerate(self.genes):
                wanted = values.get(gene.name)
                if not gene.ordered:
                    vector[place] = gene.choices.index(wanted) if wanted in gene.choices else 0
                elif gene.name in _MIDDLE:
                    vector[place] = self.upper[place] // 2
            anchors.append(vector)
        return anchors


def _narrowed(gene: Gene, choices: Iterable[Any]) -> Gene:
    where = f"search.space.{gene.name}"
    checked = tuple(check_choice(gene, value, where) for value in choices)
    if not checked:
        raise InputError(f"{where} is empty; list at least one choice, or leave the gene out to search all of "
                         f"{', '.join(map(str, gene.choices))}.")
    if len(set(checked)) != len(checked):
        raise InputError(f"{where} names a choice twice: {quote(list(checked))}; list each once.")
    return dataclasses.replace(gene, choices=tuple(sorted(checked)) if gene.ordered else checked)


def _nearest_index(gene: Gene, value: Any) -> int:
    if value in gene.choices:
        return gene.choices.index(value)
    if not gene.ordered:
        return 0
    return min(range(len(gene.choices)), key=lambda index: abs(gene.choices[index] - value))
