"""NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002) on pymoo, by ask and tell, with its whole state as JSON.

pymoo's `NSGA2` on an encoded, quantised vector: its mixed-variable mating selects parents at random, so the
documented example of it is not NSGA-II. With three objectives crowding is `mnn` (Kukkonen and Deb 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from parapet.errors import InputError
from parapet.genome import Genome, SearchSpace
from parapet.search.operators import NeighbourMutation, NeverTwice, NormaliseGenes, decode_all, first_generation, top_up

SCHEMA_VERSION = 1
# pymoo sorts by F even where a candidate is infeasible, and cannot take NaN.
_INFEASIBLE = 1e9


class Evolution:
    """The search's mind: `ask` for genomes, `tell` their objectives, `state` at any time between the two.

    A search that is rebuilt from its state goes on exactly as if it had never stopped.
    """

    def __init__(self, space: SearchSpace, *, population: int, objectives: int, seed: int) -> None:
        """`population` candidates a generation, `objectives` numbers each, all minimised."""
        if space.size < population:
            raise InputError(f"search.space holds at most {space.size} genomes, fewer than search.population "
                             f"({population}); widen the space or lower the population.")
        self.space, self.population, self.objectives = space, population, objectives
        self.generation = 0
        self.known: set[tuple[int, ...]] = set()
        self.pending: np.ndarray | None = None
        self._algorithm = NSGA2(
            pop_size=population, sampling=np.empty((0, len(space.genes))), crossover=UniformCrossover(),
            mutation=NeighbourMutation(space), repair=NormaliseGenes(space),
            survival=RankAndCrowding(crowding_func="cd" if objectives < 3 else "mnn"),
            eliminate_duplicates=NeverTwice(self.known))
        problem = Problem(n_var=len(space.genes), n_obj=objectives, n_ieq_constr=1, xl=0, xu=space.upper, vtype=int)
        self._algorithm.setup(problem, termination=NoTermination(), seed=seed)

    def ask(self) -> list[Genome]:
        """The genomes of this generation; the same ones until they are told. Never empty."""
        if self.pending is None:
            self.pending = self._propose()
        return decode_all(self.space, self.pending)

    def tell(self, objectives: Sequence[Sequence[float] | None]) -> None:
        """The objectives of the genomes asked for, in their order; None for an infeasible candidate."""
        if self.pending is None or len(objectives) != len(self.pending):
            raise ValueError(f"told {len(objectives)} results, asked for "
                             f"{0 if self.pending is None else len(self.pending)}")
        told = Population.new(
            "X", self.pending,
            "F", np.array([[_INFEASIBLE] * self.objectives if row is None else list(row) for row in objectives], float),
            "G", np.array([[1.0 if row is None else -1.0] for row in objectives]))
        self.known.update(tuple(map(int, row)) for row in self.pending)
        self._algorithm.advance(infills=told)
        self.pending = None
        self.generation += 1
        self._algorithm.n_iter = self.generation + 1

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as strict JSON."""
        members = self._algorithm.pop
        population = None
        if self.generation > 0:
            population = {name: members.get(name).tolist() for name in ("X", "F", "G")}
            population["rank"] = [_finite(value) for value in members.get("rank")]
            population["crowding"] = [_finite(value) for value in members.get("crowding")]
        return {"schema_version": SCHEMA_VERSION, "generation": self.generation,
                "genes": [[gene.name, list(gene.choices)] for gene in self.space.genes],
                "population": population, "known": sorted(self.known),
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
        self.known.clear()
        self.known.update(tuple(row) for row in state["known"])
        self.pending = None if state["pending"] is None else np.array(state["pending"], dtype=int)
        algorithm = self._algorithm
        algorithm.random_state.bit_generator.state = state["random"]
        algorithm.n_iter = self.generation + 1
        if state["population"] is not None:
            saved = state["population"]
            members = Population.new("X", np.array(saved["X"], dtype=int), "F", np.array(saved["F"], float),
                                     "G", np.array(saved["G"], float))
            # Rank and crowding feed the next tournaments and were computed before the last front was cut, so
            # they cannot be computed again from what survived.
            members.set("rank", np.array([_number(value) for value in saved["rank"]]))
            members.set("crowding", np.array([_number(value) for value in saved["crowding"]]))
            algorithm.pop, algorithm.is_initialized = members, True

    def _propose(self) -> np.ndarray:
        random = self._algorithm.random_state
        if self.generation == 0:
            self._algorithm._initialize()
            return first_generation(self.space, self.population, random)
        offspring = self._algorithm.infill()
        vectors = [] if offspring is None else [tuple(map(int, row)) for row in offspring.get("X")]
        vectors = top_up(self.space, vectors, self.known | set(vectors), self.population, random)
        # An exhausted space proposes known genomes again: they cost nothing, and a generation is never empty.
        return np.array(vectors or sorted(self.known)[:1], dtype=int)


def _finite(value: float) -> float | str | None:
    return None if value is None else "inf" if np.isinf(value) else float(value)


def _number(value: float | str | None) -> float | None:
    return np.inf if value == "inf" else value
