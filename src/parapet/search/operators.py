"""pymoo operators on integer vectors: sampling, mutation, repair, and removal of known and inadmissible vectors."""

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
# Mutation can move a gene with more choices than this by more than one position.
_FEW = 4


class Proposable(Generic[P]):
    """The vectors that may be proposed: those that are not in `known` and whose point is `admissible`.

    `known` holds `number(vector)` of each known vector, because integers are saved much faster than vectors.
    """

    def __init__(self, space: Space[P], admissible: Callable[[P], bool] | None = None) -> None:
        self.space, self.admissible = space, admissible
        self.known: set[int] = set()
        self._sizes = [int(last) + 1 for last in space.upper]
        # A cache: counting FLOPs is slow compared with the rest, and mating often produces the same vectors.
        self._verdicts: dict[int, bool] = {}

    def number(self, vector: Sequence[int]) -> int:
        """The vector's index in the lexicographic order of all vectors, from 0 to the space's size - 1."""
        number = 0
        for size, index in zip(self._sizes, vector):
            number = number * size + int(index)
        return number

    def vector(self, number: int) -> Vector:
        """The vector with this `number`; the inverse of `number`."""
        indices = []
        for size in reversed(self._sizes):
            number, index = divmod(number, size)
            indices.append(index)
        return tuple(reversed(indices))

    def admits(self, vector: Sequence[int]) -> bool:
        """Whether the vector's point is admissible; it may be known."""
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
    """`count` different admissible vectors, shape (count, genes): three anchors, then a Latin hypercube.

    Fewer rows where the space has fewer such vectors, or where random sampling does not find them.
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
    """`vectors` with other proposable vectors added, up to `count`; fewer in an exhausted space.

    The added vectors are drawn uniformly at random. Where ceilings exclude almost all of the space, so that this finds
    too few, neighbours of `vectors` and `roots` are tried.
    """
    space, vectors = proposable.space, list(vectors)
    taken = set(vectors)

    def take(vector: np.ndarray) -> None:
        found = tuple(map(int, space.normalise(vector)))
        if found not in taken and found in proposable:
            taken.add(found)
            vectors.append(found)

    for turn in range(100 * count):
        # Where so many draws and all anchors were inadmissible, stop early so that the user gets the error soon.
        if len(vectors) >= count or (turn == 20 * count and not vectors and not roots):
            return vectors
        take(random.integers(0, space.upper + 1))
    for _ in range(100 * count):
        near = [*vectors, *roots]
        if len(vectors) >= count or not near or proposable.admissible is None:
            break
        vector = np.array(near[random.integers(len(near))])
        place = random.choice(np.flatnonzero(space.upper > 0))  # nosec B311 # numpy's seeded generator, not for secrets
        vector[place] = random.integers(0, space.upper[place] + 1)
        take(vector)
    return vectors


def as_rows(space: Space[Any], vectors: Sequence[Vector] | Sequence[np.ndarray]) -> np.ndarray:
    """Vectors as an integer array, shape (len(vectors), genes), also for an empty sequence."""
    return np.array(vectors, dtype=int).reshape(-1, len(space.genes))


class NeighbourMutation(Mutation):
    """Mutates each gene that has more than one choice with probability 1.5 / (number of such genes).

    An unordered gene takes any other choice. An ordered gene moves up or down: by one position where it has up to four
    choices, otherwise by a step size from 1 to the distance to that end, with a probability about proportional to
    1 / size (Doerr, Doerr, Koetzing 2018). A gene with 50 choices can thus reach any choice in few generations.
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
    """Sets genes without effect to index 0, so that duplicates are recognised."""

    def __init__(self, space: Space[Any]) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, X: np.ndarray, **kwargs: Any) -> np.ndarray:  # noqa: N803
        return np.array([self.space.normalise(row) for row in X])


class NeverTwice(DuplicateElimination):
    """Removes vectors that were proposed before, in this or an earlier generation, and inadmissible ones.

    pymoo repeats mating until there are enough offspring, at most a hundred times.
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
    """The points of the rows of `vectors` (n, genes)."""
    return [space.decode(row) for row in vectors]
