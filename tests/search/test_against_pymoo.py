"""The search on test problems of known difficulty, against pymoo's own NSGA-II with the same budget and operators.

The problems are put on a grid, as the search knows nothing else. The optimum of ZDT1 lies where all genes are at their
lowest, which is the first anchor, and that of DTLZ2 at the second one, in the middle: so each gene's choices are folded
at a place of its own, 0 lies inside the grid and both of its ends are high.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import moocore
import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.optimize import minimize
from pymoo.problems import get_problem

from parapet.catalogue.genes import Gene
from parapet.search.evolution import Evolution
from parapet.search.operators import NeighbourMutation, NeverTwice, NormaliseGenes, Proposable, first_generation
from parapet.search.space import Space


class Grid(Space[tuple[int, ...]]):
    """A space whose genes are numbers in [0, 1] and whose genomes are the vectors themselves."""

    def __init__(self, genes: int, choices: int) -> None:
        folds = np.random.default_rng(0).integers(choices // 5, choices - choices // 5, genes)
        self.values = np.abs(np.arange(choices) - folds[:, None]) / np.maximum(folds, choices - 1 - folds)[:, None]
        self.genes = [Gene(f"x{place}", tuple(range(choices)), True) for place in range(genes)]

    def decode(self, vector: np.ndarray) -> tuple[int, ...]:
        return tuple(map(int, vector))

    def encode(self, point: tuple[int, ...]) -> np.ndarray:
        return np.array(point)


class OnGrid(Problem):
    """One of pymoo's problems at the points of a grid."""

    def __init__(self, inner: Problem, grid: Grid) -> None:
        super().__init__(n_var=inner.n_var, n_obj=inner.n_obj, n_ieq_constr=inner.n_ieq_constr, xl=0, xu=grid.upper,
                         vtype=int)
        self.inner, self.grid = inner, grid

    def _evaluate(self, X: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:  # noqa: N803
        share = self.grid.values[np.arange(self.n_var), X]
        out.update(self.inner.evaluate(self.inner.xl + share * (self.inner.xu - self.inner.xl),
                                       return_as_dictionary=True))


class FirstGeneration(Sampling):
    """The search's own first generation, for pymoo."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def _do(self, problem: Problem, n_samples: int, *args: Any, random_state: np.random.Generator | None = None,
            **kwargs: Any) -> np.ndarray:
        return first_generation(self.grid, n_samples, random_state)


@dataclass(frozen=True)
class Case:
    """A problem, its grid, the budget, and the reference point of the hypervolume."""

    name: str
    options: tuple[tuple[str, int], ...]
    choices: int
    population: int
    generations: int
    reference: tuple[float, ...]

    @cached_property
    def problem(self) -> OnGrid:
        inner = get_problem(self.name, **dict(self.options))
        return OnGrid(inner, Grid(inner.n_var, self.choices))

    def hypervolume(self, F: np.ndarray) -> float:  # noqa: N803
        return moocore.hypervolume(F, ref=self.reference) if len(F) else 0.0


SEEDS = range(7)
CASES = (Case("zdt1", (("n_var", 10),), 50, 40, 50, (1.1, 1.1)),
         Case("dtlz2", (("n_var", 8), ("n_obj", 3)), 50, 40, 50, (1.1, 1.1, 1.1)),
         Case("tnk", (), 1000, 40, 30, (1.2, 1.2)))


@cache
def ours(case: Case, seed: int) -> tuple[list[list[tuple]], float]:
    """What was asked in each generation and the hypervolume of the last population, saved and restored in between."""
    evolution, asked = _evolution(case, seed), []
    for _ in range(case.generations):
        genomes = evolution.ask()
        asked.append(genomes)
        evolution = _revived(case, evolution)
        F, G = case.problem.evaluate(np.array(genomes), return_values_of=["F", "G"])  # noqa: N806
        evolution.tell(F.tolist(), np.maximum(0, G).sum(axis=1).tolist())
        evolution = _revived(case, evolution)
    F, G = case.problem.evaluate(np.array(evolution.members), return_values_of=["F", "G"])  # noqa: N806
    return asked, case.hypervolume(F[np.all(G <= 0, axis=1)])


def pymoos(case: Case, seed: int, **options: Any) -> tuple[list[list[tuple]], float]:
    """The same of pymoo's `minimize`, with `options` for its NSGA2."""
    asked = []

    def listen(algorithm: NSGA2) -> None:
        asked.append([tuple(map(int, row)) for row in algorithm.off.get("X")])
        if isinstance(algorithm.eliminate_duplicates, NeverTwice):
            proposable = algorithm.eliminate_duplicates.proposable
            proposable.known.update(map(proposable.number, asked[-1]))

    grid = case.problem.grid
    algorithm = NSGA2(
        pop_size=case.population, sampling=FirstGeneration(grid), crossover=UniformCrossover(),
        mutation=NeighbourMutation(grid), repair=NormaliseGenes(grid), callback=listen,
        survival=RankAndCrowding(crowding_func="cd" if case.problem.n_obj < 3 else "mnn"), **options)
    result = minimize(case.problem, algorithm, ("n_gen", case.generations), seed=seed,
                      tournament_type="comp_by_rank_and_crowding")
    return asked, case.hypervolume(result.F if result.F is not None else np.empty((0, case.problem.n_obj)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_equal_seed_gives_pymoo_s_own_search(case: Case) -> None:
    """Every genome of every generation, though ours goes through JSON twice a generation."""
    asked, volume = ours(case, 0)
    theirs = pymoos(case, 0, eliminate_duplicates=NeverTwice(Proposable(case.problem.grid)))
    assert (asked, volume) == theirs
    assert volume > 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hypervolume_is_within_one_percent_of_pymoo_s(case: Case) -> None:
    """Medians over seven seeds; pymoo looks for duplicates in its own way here, among parents and offspring alone."""
    median = np.median([ours(case, seed)[1] for seed in SEEDS])
    assert median == pytest.approx(np.median([pymoos(case, seed)[1] for seed in SEEDS]), rel=0.01)


def _evolution(case: Case, seed: int) -> Evolution:
    return Evolution(case.problem.grid, population=case.population, objectives=case.problem.n_obj, seed=seed)


def _revived(case: Case, evolution: Evolution) -> Evolution:
    """Through strict JSON, into an object that began with another seed."""
    revived = _evolution(case, seed=999)
    revived.restore(json.loads(json.dumps(evolution.state(), allow_nan=False)))
    return revived
