"""A search space: genes with choices, and the map between points and integer vectors.

The search algorithm depends only on this interface; `network_space` is the space of networks and recipes.
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
    """Maps between points of type P and vectors with one index per gene. Two points are equal where they mean the same.
    """

    genes: tuple[Gene, ...]

    @abstractmethod
    def decode(self, vector: Vector) -> P:
        """The point of a vector of indices, one per gene; several vectors may give the same point."""

    @abstractmethod
    def encode(self, point: P) -> np.ndarray:
        """The indices (genes,) of the choices nearest to `point`."""

    def normalise(self, vector: Vector) -> np.ndarray:
        """The vector that `encode` returns for the same point, so that equal points have equal vectors."""
        return self.encode(self.decode(vector))

    def anchors(self) -> list[np.ndarray]:
        """Vectors (genes,) that every first generation contains: the first, middle and last choice of each gene."""
        return [np.round(self.upper * height).astype(int) for height in (0.0, 0.5, 1.0)]

    def choices(self, name: str) -> tuple[Any, ...]:
        """The choices of the gene `name`."""
        return next(gene.choices for gene in self.genes if gene.name == name)

    @property
    def upper(self) -> np.ndarray:
        """The largest index of each gene; the smallest is 0."""
        return np.array([len(gene.choices) - 1 for gene in self.genes])

    @property
    def size(self) -> int:
        """The number of vectors, which is an upper bound on the number of different points."""
        return math.prod(len(gene.choices) for gene in self.genes)
