"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002) on pymoo, with an ask-and-tell interface and its whole state as JSON.

It runs pymoo's `NSGA2` on integer vectors. pymoo's mixed-variable mating is not used, because it selects parents at
random, which is not NSGA-II. Parents are selected by tournament as in the paper: feasible ones first, then by rank,
then by crowding (pymoo's default compares two parents by dominance instead of rank). With three or more objectives
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
# Objectives of a failed candidate: pymoo sorts by F even where a candidate is infeasible, and does not accept NaN.
_FAILED = 1e9
# The violation of a candidate that failed: larger than that of any measured candidate.
_HUGE = 1e30

# A candidate's objectives (None where it failed) and its constraint violation.
Evaluated = tuple[Sequence[float] | None, float]


class Evolution(Generic[P]):
    """NSGA-II: call `ask` for points, then `tell` with their objectives; `state` may be saved at any time.

    A search that is restored from its state gives exactly the results of one that was never interrupted.
    """

    def __init__(self, space: Space[P], *, population: int, objectives: int, seed: int,
                 admissible: Callable[[P], bool] | None = None, surrogate: Surrogate | None = None,
                 oversampling: int = 4) -> None:
        """`population` candidates per generation, with `objectives` values each, all minimised.

        Points for which `admissible` returns False are never proposed; it must be deterministic. With a `surrogate`,
        `oversampling` times as many offspring are generated as are proposed. Raises InputError where the space has
        fewer than `population` vectors.
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
        """The current population, whose members are the parents of the next generation; empty before the first `tell`.
        """
        return decode_all(self.space, self._algorithm.pop.get("X")) if self.generation > 0 else []

    def ask(self, history: Sequence[tuple[P, Sequence[float]]] = ()) -> list[P]:
        """The points of this generation, the same ones until `tell` is called. Never empty.

        `history` is the surrogate's training data, oldest first: measured points and their objectives, all of one
        fidelity. Fewer than `population` points are returned where the space has no more. Raises InputError where no
        admissible point was found.
        """
        if self.pending is None:
            self.pending = self._propose(history)
        return decode_all(self.space, self.pending)

    def tell(self, objectives: Sequence[Sequence[float] | None], violations: Sequence[float] | None = None) -> None:
        """Pass the objectives of the points from `ask`, in their order; None, NaN or infinite for a failed point.

        `violations` has one value >= 0 per point: its constraint violation, 0 where it is feasible. Feasible candidates
        rank before infeasible ones, infeasible ones by increasing violation, failed ones last (Deb 2002). Raises
        ValueError where the numbers of results and of points differ, and for a negative violation.
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
        """Replace the objectives and violations, as in `tell`, of members that were measured again.

        Before `tell` of a generation the new values affect which members survive; after it they affect which members
        become parents. Points that are not members are ignored.
        """
        changed = False
        for member, point in zip(self._algorithm.pop if self.generation > 0 else (), self.members):
            if point in values:
                row, violation = self._as_pymoo(*values[point])
                # pymoo stores the sum of violations separately from G and would keep the old sum.
                member.set_by_dict(F=np.array(row), G=np.array([violation]), CV=None)
                changed = True
        if changed:
            algorithm = self._algorithm
            algorithm.pop = algorithm.survival.do(algorithm.problem, algorithm.pop, n_survive=len(algorithm.pop),
                                                  algorithm=algorithm, random_state=algorithm.random_state)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as strict JSON; the known points are hexadecimal numbers in one string."""
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
        """Continue from `state`. Raises InputError where it is for another space or from another version."""
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
            # The next tournaments use rank and crowding. They were computed before the last front was truncated, so
            # they cannot be recomputed from the survivors.
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
        # In an exhausted space a known point is proposed again: it is not measured again, and a generation must not be
        # empty.
        again = next(filter(proposable.admits, map(proposable.vector, sorted(proposable.known))), None)
        if again is None:
            raise InputError("search.maximum_flops, maximum_params or maximum_latency_ms leave nothing of "
                             "search.space: no genome that was drawn from it stays below them; raise them, or list "
                             "smaller choices in search.space.")
        return as_rows(self.space, [again])

    def _preferred(self, surrogate: Surrogate, pool: np.ndarray,
                   history: Sequence[tuple[P, Sequence[float]]]) -> np.ndarray:
        """Indices into `pool`, shape (offspring, genes), of the offspring that the surrogate selects for training."""
        recent = [(point, row) for point, row in history[-surrogate.memory:] if np.isfinite(row).all()]
        measured = as_rows(self.space, [self.space.encode(point) for point, _ in recent])
        values = np.array([row for _, row in recent], float).reshape(-1, self.objectives)
        return surrogate.choose(measured, values, pool, self.population, genes=self.space.genes,
                                generation=self.generation)

    def _as_pymoo(self, objectives: Sequence[float] | None, violation: float) -> tuple[list[float], float]:
        """F and G of a candidate for pymoo: finite, and feasible where G <= 0. ValueError for a violation below 0."""
        if objectives is None or not all(map(math.isfinite, (*objectives, violation))):
            return [_FAILED] * self.objectives, _HUGE
        if violation < 0:
            raise ValueError(f"a violation of {violation}; 0 is feasible, and more is further from it")
        return [float(value) for value in objectives], float(violation)


def _finite(value: float | None) -> float | str | None:
    return None if value is None else "inf" if np.isinf(value) else float(value)


def _number(value: float | str | None) -> float | None:
    return math.inf if isinstance(value, str) else value
