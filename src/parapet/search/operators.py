"""pymoo operators on integer vectors: sampling, mutation, and duplicates against everything ever proposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.repair import Repair
from scipy.stats import qmc

from parapet.genome import Genome, SearchSpace

# Anchors of the first generation: the cheap end, the middle and the strong end of every space.
_ANCHORS: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.0, {"backbone": "plain", "loss": "trades"}),
    (0.5, {"backbone": "plain", "loss": "trades"}),
    (1.0, {"backbone": "residual", "loss": "trades", "activation": "silu"}),
)


def first_generation(space: SearchSpace, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` different vectors, shape (count, genes): three anchors, then a Latin hypercube.

    Fewer where the space does not hold as many.
    """
    vectors = [space.normalise(vector) for vector in _anchors(space)]
    cube = qmc.LatinHypercube(len(space.genes), rng=random).random(count)
    vectors += [space.normalise(np.floor(row * (space.upper + 1)).astype(int)) for row in cube]
    found = list(dict.fromkeys(tuple(map(int, vector)) for vector in vectors))[:count]
    return np.array(top_up(space, found, set(found), count, random))


def top_up(space: SearchSpace, vectors: list[tuple[int, ...]], known: set[tuple[int, ...]], count: int,
           random: np.random.Generator) -> list[tuple[int, ...]]:
    """`vectors` and as many random ones that are not `known` as make `count`; fewer in an exhausted space."""
    vectors, known = list(vectors), set(known)
    for _ in range(100 * count):
        if len(vectors) >= count:
            break
        vector = tuple(map(int, space.normalise(random.integers(0, space.upper + 1))))
        if vector not in known:
            known.add(vector)
            vectors.append(vector)
    return vectors


class NeighbourMutation(Mutation):
    """Each gene that has a choice, with probability 1.5 over their number: an ordered one moves one place, another
    takes any other choice."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(prob=1.0)
        self.space = space

    def _do(self, problem: Any, X: np.ndarray, *args: Any, random_state: np.random.Generator | None = None,  # noqa: N803
            **kwargs: Any) -> np.ndarray:
        mutated = X.copy()
        chance = 1.5 / max(1, sum(len(gene.choices) > 1 for gene in self.space.genes))
        for row in mutated:
            for place, gene in enumerate(self.space.genes):
                size = len(gene.choices)
                if size < 2 or random_state.random() >= chance:
                    continue
                if gene.ordered:
                    step = -1 if row[place] == size - 1 or (row[place] > 0 and random_state.random() < 0.5) else 1
                    row[place] += step
                else:
                    row[place] = (row[place] + random_state.integers(1, size)) % size
        return mutated


class NormaliseGenes(Repair):
    """Genes without effect to index 0, so that duplicates are seen."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, X: np.ndarray, **kwargs: Any) -> np.ndarray:  # noqa: N803
        return np.array([self.space.normalise(row) for row in X])


class NeverTwice(DuplicateElimination):
    """Drops what was proposed before, in this generation or in any other."""

    def __init__(self, known: set[tuple[int, ...]]) -> None:
        super().__init__()
        self.known = known

    def _do(self, pop: Any, other: Any, is_duplicate: np.ndarray) -> np.ndarray:
        seen = set(self.known) if other is None else {tuple(map(int, row)) for row in other.get("X")}
        for place, row in enumerate(pop.get("X")):
            vector = tuple(map(int, row))
            is_duplicate[place] |= vector in seen
            if other is None:
                seen.add(vector)
        return is_duplicate


def _anchors(space: SearchSpace) -> Sequence[np.ndarray]:
    anchors = []
    for height, values in _ANCHORS:
        vector = np.round(space.upper * height).astype(int)
        for place, gene in enumerate(space.genes):
            wanted = values.get(gene.name)
            if not gene.ordered:
                vector[place] = gene.choices.index(wanted) if wanted in gene.choices else 0
            elif gene.name in ("learning_rate", "eps_ratio", "weight_decay", "clean_share", "denoiser_stage"):
                vector[place] = space.upper[place] // 2
        anchors.append(vector)
    return anchors


def decode_all(space: SearchSpace, vectors: np.ndarray) -> list[Genome]:
    """One genome a row."""
    return [space.decode(row) for row in vectors]
