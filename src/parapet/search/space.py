"""A space to search: genes with choices, and the map between its points and integer vectors.

The search itself knows no more of what it looks for; `network_space` is the space of networks and recipes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from parapet.catalogue.genes import Gene

P = TypeVar("P", bound=Hashable)
Vector = Sequence[int] | np.ndarray


class Space(ABC, Generic[P]):
    """Points of type P, equal where they are the same thing, and vectors with an index for each of `genes`."""

    genes: tuple[Gene, ...]

    @abstractmethod
    def decode(self, vector: Vector) -> P:
        """Indices, one per gene, to the point that they stand for; several vectors may stand for one point."""

    @abstractmethod
    def encode(self, point: P) -> np.ndarray:
        """A point to the indices of its nearest choices."""

    def normalise(self, vector: Vector) -> np.ndarray:
        """The vector that `encode` gives for the same point: equal points have equal vectors."""
        return self.encode(self.decode(vector))

    def anchors(self) -> list[np.ndarray]:
        """Vectors that a first generation always holds: the first, the middle and the last choice of every gene."""
        return [np.round(self.upper * height).astype(int) for height in (0.0, 0.5, 1.0)]

    def choices(self, name: str) -> tuple[Any, ...]:
        """What the gene called `name` may be."""
        return next(gene.choices for gene in self.genes if gene.name == name)

    @property
    def upper(self) -> np.ndarray:
        """The largest index of each gene; the smallest is 0."""
        return np.array([len(gene.choices) - 1 for gene in self.genes])

    @property
    def size(self) -> int:
        """How many vectors there are; an upper bound on how many different points."""
        return math.prod(len(gene.choices) for gene in self.genes)
