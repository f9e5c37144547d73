"""pymoo operators on integer vectors: sampling, mutation, and what may not be proposed (again)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import numpy as np
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.repair import Repair
from scipy.stats import qmc

from parapet.search.space import P, Space

Vector = tuple[int, ...]
# Genes with more choices than this are moved by more than one place at a time.
_FEW = 4


class Proposable(Generic[P]):
    """Which vectors may be proposed: those that are not `known` yet and whose point is `admissible`.

    `known` holds their numbers: 10,000 whole numbers are saved in a millisecond, 10,000 vectors are not.
    """

    def __init__(self, space: Space[P], admissible: Callable[[P], bool] | None = None) -> None:
        self.space, self.admissible = space, admissible
        self.known: set[int] = set()
        self._sizes = [int(last) + 1 for last in space.upper]
        # Counting a network's FLOPs is slow beside everything else here, and mating makes the same vectors again.
        self._verdicts: dict[int, bool] = {}

    def number(self, vector: Sequence[int]) -> int:
        """The vector's place in the lexicographic order of all vectors, from 0 to the space's size - 1."""
        number = 0
        for size, index in zip(self._sizes, vector):
            number = number * size + int(index)
        return number

    def vector(self, number: int) -> Vector:
        """The vector at a place of that order."""
        indices = []
        for size in reversed(self._sizes):
            number, index = divmod(number, size)
            indices.append(index)
        return tuple(reversed(indices))

    def admits(self, vector: Sequence[int]) -> bool:
        """Whether the vector's point is admissible, known or not."""
        if self.admissible is None:
            return True
        number = self.number(vector)
        if number not in self._verdicts:
            self._verdicts[number] = bool(self.admissible(self.space.decode(vector)))
        return self._verdicts[number]

    def __contains__(self, vector: Sequence[int]) -> bool:
        return self.number(vector) not in self.known and self.admits(vector)


def first_generation(space: Space[Any], count: int, random: np.random.Generator,
                     proposable: Proposable[Any] | None = None) -> np.ndarray:
    """`count` different vectors, shape (count, genes): three anchors, then a Latin hypercube; no inadmissible ones.

    Fewer where the space does not hold as many, or where chance does not find them.
    """
    proposable = proposable or Proposable(space)
    vectors = [space.normalise(vector) for vector in space.anchors()]
    cube = qmc.LatinHypercube(len(space.genes), rng=random).random(count)
    vectors += [space.normalise(np.floor(row * (space.upper + 1)).astype(int)) for row in cube]
    found = dict.fromkeys(tuple(map(int, vector)) for vector in vectors)
    return as_rows(space, top_up([vector for vector in found if vector in proposable][:count], proposable, count,
                                 random))


def top_up(vectors: Sequence[Vector], proposable: Proposable[Any], count: int, random: np.random.Generator,
           roots: Sequence[Vector] = ()) -> list[Vector]:
    """`vectors` and as many other proposable ones as make `count`; fewer in an exhausted space.

    They are drawn at random, and where ceilings leave so little that chance misses it, next to `vectors` and `roots`.
    """
    space, vectors = proposable.space, list(vectors)
    taken = set(vectors)

    def take(vector: np.ndarray) -> None:
        found = tuple(map(int, space.normalise(vector)))
        if found not in taken and found in proposable:
            taken.add(found)
            vectors.append(found)

    for turn in range(100 * count):
        # Where none of so many is allowed, and no anchor was, more draws would only keep whoever waits from the reason.
        if len(vectors) >= count or (turn == 20 * count and not vectors and not roots):
            return vectors
        take(random.integers(0, space.upper + 1))
    for _ in range(100 * count):
        near = [*vectors, *roots]
        if len(vectors) >= count or not near or proposable.admissible is None:
            break
        vector = np.array(near[random.integers(len(near))])
        place = random.choice(np.flatnonzero(space.upper > 0))  # nosec B311 # numpy's, seeded; no secret
        vector[place] = random.integers(0, space.upper[place] + 1)
        take(vector)
    return vectors


def as_rows(space: Space[Any], vectors: Sequence[Vector] | Sequence[np.ndarray]) -> np.ndarray:
    """Vectors as an integer array, shape (len(vectors), genes), also where there are none."""
    return np.array(vectors, dtype=int).reshape(-1, len(space.genes))


class NeighbourMutation(Mutation):
    """Each gene that has a choice, with probability 1.5 over their number: an unordered one takes any other choice.

    An ordered one moves to either side: one place where it has up to four choices, and with more of them by a length,
    from 1 to all the room on that side, that is chosen about as often as its inverse says (Doerr, Doerr, Koetzing
    2018). So neither the way across a gene of 50 choices nor the last place of it takes many generations.
    """

    def __init__(self, space: Space[Any]) -> None:
        super().__init__(prob=1.0)
        self.space = space

    def _do(self, problem: Any, X: np.ndarray, *args: Any, random_state: np.random.Generator,  # noqa: N803
            **kwargs: Any) -> np.ndarray:
        mutated = X.copy()
        chance = 1.5 / max(1, sum(len(gene.choices) > 1 for gene in self.space.genes))
        for row in mutated:
            for place, gene in enumerate(self.space.genes):
                size = len(gene.choices)
                if size < 2 or random_state.random() >= chance:
                    continue
                if gene.ordered:
                    down = row[place] == size - 1 or (row[place] > 0 and random_state.random() < 0.5)
                    room = row[place] if down else size - 1 - row[place]
                    length = 1 if size <= _FEW else min(room, int((room + 1) ** random_state.random()))
                    row[place] += -length if down else length
                else:
                    row[place] = (row[place] + random_state.integers(1, size)) % size
        return mutated


class NormaliseGenes(Repair):
    """Genes without effect to index 0, so that duplicates are seen."""

    def __init__(self, space: Space[Any]) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, X: np.ndarray, **kwargs: Any) -> np.ndarray:  # noqa: N803
        return np.array([self.space.normalise(row) for row in X])


class NeverTwice(DuplicateElimination):
    """Drops what was proposed before, in this generation or in any other, and what is not admissible.

    pymoo mates again until there are enough offspring, a hundred times at most.
    """

    def __init__(self, proposable: Proposable[Any]) -> None:
        super().__init__()
        self.proposable = proposable

    def _do(self, pop: Any, other: Any, is_duplicate: np.ndarray) -> np.ndarray:
        seen = set() if other is None else {tuple(map(int, row)) for row in other.get("X")}
        for place, row in enumerate(pop.get("X")):
            vector = tuple(map(int, row))
            is_duplicate[place] |= vector in seen or (other is None and vector not in self.proposable)
            if other is None:
                seen.add(vector)
        return is_duplicate


def decode_all(space: Space[P], vectors: np.ndarray) -> list[P]:
    """One point a row."""
    return [space.decode(row) for row in vectors]
