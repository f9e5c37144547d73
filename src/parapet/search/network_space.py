"""The space of networks and recipes: the choices of every gene, and the encoding of genomes as integer vectors."""

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

# Images from this height on are worth networks and attacks that would only waste time on smaller ones.
LARGE_FROM = 16
LARGE_CHOICES = {"width": (16, 32, 64, 96), "depth": (1, 2, 3, 4), "steps": (2, 3, 5, 7, 10)}

# The anchors of a first generation: how far up each ordered gene is, and the words of the others. More of the genes
# `_MIDDLE` is neither cheaper nor stronger.
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
        """`overrides` maps gene names to the choices to search (params.yaml's `search.space`).

        Without an override a gene has the choices of `GENES`, or of `LARGE_CHOICES` for images (C, H, W) that
        are at least `LARGE_FROM` pixels high.
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
        """Whether a gene that no override names is part of the space: those that joined later are where a loss of the
        space uses them, so that the course of a search depends on no plugin that it has no use for."""
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
        """Indices, one per gene, to a canonical genome."""
        values = {gene.name: gene.choices[int(index)] for gene, index in zip(self.genes, vector, strict=True)}
        return Genome.of(settled(values))

    def encode(self, point: Genome) -> np.ndarray:
        """A genome to the indices of its nearest choices; genes without effect get index 0."""
        return np.array([_nearest_index(gene, point[gene.name]) for gene in self.genes])

    def anchors(self) -> list[np.ndarray]:
        """The cheap end, the middle and the strong end of the space."""
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
