"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002) on pymoo, by ask and tell, with its whole state as JSON.

pymoo's `NSGA2` on an encoded, quantised vector: its mixed-variable mating selects parents at random, so the
documented example of it is not NSGA-II. Parents win tournaments as in the paper: feasible ones before others, then by
rank, then by crowding (pymoo compares two parents by dominance instead of rank unless told). With three objectives
crowding is `mnn` (Kukkonen and Deb 2006).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from parapet.errors import InputError
from parapet.search.operators import (
    NeighbourMutation,
    NeverTwice,
    NormaliseGenes,
    Proposable,
    as_rows,
    decode_all,
    first_generation,
    top_up,
)
from parapet.search.space import P, Space
from parapet.search.surrogate import Surrogate

SCHEMA_VERSION = 2
# pymoo sorts by F even where a candidate is infeasible, and cannot take NaN.
_FAILED = 1e9
# A candidate that failed violates more than any that was measured.
_HUGE = 1e30

# A candidate's objectives, None where it failed, and by how much it violates the constraints.
Evaluated = tuple[Sequence[float] | None, float]


class Evolution(Generic[P]):
    """`ask` for points, `tell` their objectives, `state` at any time between the two.

    A search that is rebuilt from its state goes on exactly as if it had never stopped.
    """

    def __init__(self, space: Space[P], *, population: int, objectives: int, seed: int,
                 admissible: Callable[[P], bool] | None = None, surrogate: Surrogate | None = None,
                 oversampling: int = 4) -> None:
        """`population` candidates a generation, `objectives` numbers each, all minimised.

        Points for which `admissible` is False are never proposed; it must always say the same of the same point.
        With a `surrogate` `oversampling` times as many offspring are made as are proposed.
        """
        if space.size < population:
            raise InputError(f"search.space holds at most {space.size} genomes, fewer than search.population "
                             f"({population}); widen the space or lower the population.")
        self.space, self.population, self.objectives = space, population, objectives
        self.surrogate, self.oversampling = surrogate, oversampling
        self.generation = 0
        self.pending: np.ndarray | None = None
        self._proposable = Proposable(space, admissible)
        self._algorithm = NSGA2(
            pop_size=population, sampling=np.empty((0, len(space.genes))), crossover=UniformCrossover(),
            mutation=NeighbourMutation(space), repair=NormaliseGenes(space),
            survival=RankAndCrowding(crowding_func="cd" if objectives < 3 else "mnn"),
            eliminate_duplicates=NeverTwice(self._proposable))
        problem = Problem(n_var=len(space.genes), n_obj=objectives, n_ieq_constr=1, xl=0, xu=space.upper, vtype=int)
        self._algorithm.setup(problem, termination=NoTermination(), seed=seed,
                              tournament_type="comp_by_rank_and_crowding")

    @property
    def members(self) -> list[P]:
        """The present population, from which the next generation is bred; empty before the first `tell`."""
        return decode_all(self.space, self._algorithm.pop.get("X")) if self.generation > 0 else []

    def ask(self, history: Sequence[tuple[P, Sequence[float]]] = ()) -> list[P]:
        """The points of this generation; the same ones until they are told. Never empty.

        `history` is what the surrogate learns from, oldest first: measured points and their objectives, all of one
        fidelity. Fewer than `population` points come of a space that holds no more. Raises InputError where no point
        at all is admissible.
        """
        if self.pending is None:
            self.pending = self._propose(history)
        return decode_all(self.space, self.pending)

    def tell(self, objectives: Sequence[Sequence[float] | None], violations: Sequence[float] | None = None) -> None:
        """The objectives of the points asked for, in their order; None, NaN or infinite for one that failed.

        `violations` are as many numbers >= 0: by how much each candidate misses being feasible, 0 where it is. Feasible
        candidates come before all others, those by how little they violate, failed ones last (Deb 2002).
        """
        asked = 0 if self.pending is None else len(self.pending)
        violations = [0.0] * len(objectives) if violations is None else violations
        if self.pending is None or not asked == len(objectives) == len(violations):
            raise ValueError(f"told {len(objectives)} results, asked for {asked}"
                             + (f", with {len(violations)} violations" if len(violations) != len(objectives) else ""))
        told = [self._as_pymoo(row, violation) for row, violation in zip(objectives, violations)]
        population = Population.new("X", self.pending, "F", np.array([row for row, _ in told]),
                                    "G", np.array([[violation] for _, violation in told]))
        self._proposable.known.update(map(self._proposable.number, self.pending))
        self._algorithm.advance(infills=population)
        self.pending = None
        self.generation += 1
        self._algorithm.n_iter = self.generation + 1

    def revise(self, values: Mapping[P, Evaluated]) -> None:
        """New objectives and violations, as in `tell`, of members that were measured again.

        Called before a generation is told they decide who survives it, called later who is bred from. Points that are
        no members are ignored.
        """
        changed = False
        for member, point in zip(self._algorithm.pop if self.generation > 0 else (), self.members):
            if point in values:
                row, violation = self._as_pymoo(*values[point])
                # pymoo keeps the sum of violations beside G and would go on with the old one.
                member.set_by_dict(F=np.array(row), G=np.array([violation]), CV=None)
                changed = True
        if changed:
            algorithm = self._algorithm
            algorithm.pop = algorithm.survival.do(algorithm.problem, algorithm.pop, n_survive=len(algorithm.pop),
                                                  algorithm=algorithm, random_state=algorithm.random_state)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as strict JSON; the known points as hexadecimal numbers in one text."""
        members = self._algorithm.pop
        population = None
        if self.generation > 0:
            population = {name: members.get(name).tolist() for name in ("X", "F", "G")}
            population["rank"] = [_finite(value) for value in members.get("rank")]
            population["crowding"] = [_finite(value) for value in members.get("crowding")]
        return {"schema_version": SCHEMA_VERSION, "generation": self.generation,
                "genes": [[gene.name, list(gene.choices)] for gene in self.space.genes],
                "population": population, "known": " ".join(f"{number:x}" for number in sorted(self._proposable.known)),
                "pending": None if self.pending is None else self.pending.tolist(),
                "random": self._algorithm.random_state.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; InputError where it was made for another space or by another version."""
        genes = [[gene.name, list(gene.choices)] for gene in self.space.genes]
        if state.get("schema_version") != SCHEMA_VERSION or state.get("genes") != genes:
            raise InputError(f"the search's state has schema version {state.get('schema_version')} and "
                             f"{len(state.get('genes', []))} genes that do not fit this search (version "
                             f"{SCHEMA_VERSION}); start in another folder, or with the old search.space.")
        self.generation = state["generation"]
        self._proposable.known.clear()
        self._proposable.known.update(int(number, 16) for number in state["known"].split())
        self.pending = None if state["pending"] is None else np.array(state["pending"], dtype=int)
        algorithm = self._algorithm
        algorithm.random_state.bit_generator.state = state["random"]
        algorithm.n_iter = self.generation + 1
        algorithm.pop, algorithm.is_initialized = Population.empty(), self.generation > 0
        if state["population"] is not None:
            saved = state["population"]
            members = Population.new("X", np.array(saved["X"], dtype=int), "F", np.array(saved["F"], float),
                                     "G", np.array(saved["G"], float))
            # Rank and crowding feed the next tournaments and were computed before the last front was cut, so
            # they cannot be computed again from what survived.
            for name in ("rank", "crowding"):
                members.set(name, [_number(value) for value in saved[name]])
            algorithm.pop = members

    def _propose(self, history: Sequence[tuple[P, Sequence[float]]]) -> np.ndarray:
        algorithm, proposable = self._algorithm, self._proposable
        random = algorithm.random_state
        if self.generation == 0:
            algorithm._initialize()
            found = first_generation(self.space, self.population, random, proposable)
        else:
            wanted = self.population * (1 if self.surrogate is None else self.oversampling)
            offspring = algorithm.mating.do(algorithm.problem, algorithm.pop, wanted, algorithm=algorithm,
                                            random_state=random)
            rows = as_rows(self.space, offspring.get("X"))
            if self.surrogate is not None:
                rows = rows[self._preferred(self.surrogate, rows, history)]
            roots = [tuple(map(int, row)) for row in algorithm.pop.get("X")]
            found = as_rows(self.space, top_up([tuple(map(int, row)) for row in rows], proposable, self.population,
                                               random, roots))
        if len(found):
            return found
        # An exhausted space proposes known points again: they cost nothing, and a generation is never empty.
        again = next(filter(proposable.admits, map(proposable.vector, sorted(proposable.known))), None)
        if again is None:
            raise InputError("search.maximum_flops, maximum_params or maximum_latency_ms leave nothing of "
                             "search.space: no genome that was drawn from it stays below them; raise them, or list "
                             "smaller choices in search.space.")
        return as_rows(self.space, [again])

    def _preferred(self, surrogate: Surrogate, pool: np.ndarray,
                   history: Sequence[tuple[P, Sequence[float]]]) -> np.ndarray:
        """Places in `pool`, shape (offspring, genes), of those that the surrogate would train."""
        recent = [(point, row) for point, row in history[-surrogate.memory:] if np.isfinite(row).all()]
        measured = as_rows(self.space, [self.space.encode(point) for point, _ in recent])
        values = np.array([row for _, row in recent], float).reshape(-1, self.objectives)
        return surrogate.choose(measured, values, pool, self.population, genes=self.space.genes,
                                generation=self.generation)

    def _as_pymoo(self, objectives: Sequence[float] | None, violation: float) -> tuple[list[float], float]:
        """F and G of a candidate as pymoo takes them: finite, and feasible where G is not above 0."""
        if objectives is None or not all(map(math.isfinite, (*objectives, violation))):
            return [_FAILED] * self.objectives, _HUGE
        if violation < 0:
            raise ValueError(f"a violation of {violation}; 0 is feasible, and more is further from it")
        return [float(value) for value in objectives], float(violation)


def _finite(value: float | None) -> float | str | None:
    return None if value is None else "inf" if np.isinf(value) else float(value)


def _number(value: float | str | None) -> float | None:
    return math.inf if isinstance(value, str) else value
