"""A search acted out on a clock alone: rounds, promotions, the end, with candidates of known cost."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parapet.config import Params
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search.budget import Budget

# Longer searches are drawn on from so many generations.
_ENOUGH = 2000
# Validation looks at whether single steps mislead the network with so many images and steps.
_WATCHED, _WATCHED_STEPS = 128, 6


@dataclass(frozen=True)
class Cost:
    """Seconds of one worker for one genome: training at each rung, going on from the one below; training from scratch;
    an attack evaluation; an export."""

    rungs: tuple[float, ...]
    whole: float
    look: float
    export: float

    def times(self, factor: float) -> Cost:
        """The same on a machine that is so many times slower."""
        return Cost(tuple(factor * seconds for seconds in self.rungs), factor * self.whole, factor * self.look,
                    factor * self.export)


@dataclass(frozen=True)
class Course:
    """Of a whole search: seconds of the clock, of all workers together, and genomes looked at."""

    seconds: float
    device_seconds: float
    candidates: int

    @property
    def per_hour(self) -> float:
        """Candidates per hour."""
        return 3600 * self.candidates / max(self.seconds, 1e-9)


def passes(genome: Genome, params: Params) -> float:
    """Of one image in one training step, a forward pass counted as 1."""
    from parapet.training.recipe import Recipe

    return float(Recipe.of(genome, params.training).flops(1))


def cost(genome: Genome, params: Params, info: dict[str, Any], *, a_pass: float, batch: int, look: float,
         export: float) -> Cost:
    """What the genome costs, with `a_pass` seconds for a pass of `batch` images."""
    ladder = Fidelity.ladder(params.search.rungs, params.training.epochs)
    rungs, behind = [], 0
    for fidelity in ladder:
        rungs.append(_training(genome, fidelity, behind, params, info, a_pass, batch))
        behind = fidelity.epochs
    return Cost(tuple(rungs), _training(genome, ladder[-1], 0, params, info, a_pass, batch), look, export)


def _training(genome: Genome, fidelity: Fidelity, behind: int, params: Params, info: dict[str, Any], a_pass: float,
              batch: int) -> float:
    """Seconds of training, with its validation and the networks that it learns from."""
    from parapet.training.companions import needed

    config = params.training
    steps = max(1, fidelity.images(info["images"]["train"], config.batch_size) // batch)
    epochs, recipe = fidelity.epochs - behind, fidelity.recipe(genome)
    looks = math.ceil(epochs / config.validate_every)
    images = min(config.validation_images, info["images"]["validation"])
    # Half of the images are broken early.
    validation = looks * images * (1 + config.validation_steps)
    single = recipe.meets_attacks and recipe.crafting != "pgd"
    watched = 0 if not recipe.meets_attacks else (epochs if single else looks) * _WATCHED * _WATCHED_STEPS
    seconds = a_pass * (epochs * steps * passes(recipe, params) + (validation + watched) / batch)
    return seconds + sum(_training(other, fidelity, behind, params, info, a_pass, batch)
                         for other in needed(recipe).values())


def simulate(params: Params, costs: Sequence[Cost], workers: int, start: float) -> Course:
    """A search whose candidates are drawn from `costs`; each worker needs `start` seconds before its first one.

    Half of a population is taken to be on the front in the end.
    """
    return _Clock(params, costs, workers, start).run()


class _Clock:
    def __init__(self, params: Params, costs: Sequence[Cost], workers: int, start: float) -> None:
        search = params.search
        self.search, self.costs, self.workers = search, costs, workers
        self.ladder = Fidelity.ladder(search.rungs, params.training.epochs)
        self.budget = Budget.parse(search.budget, search.population, search.generations)
        self.seconds, self.device_seconds, self.candidates = start, 0.0, 0
        self.whole = statistics.fmean(cost.whole + cost.look + cost.export for cost in costs)
        self.timed = "latency_ms" in search.objectives
        self.random = np.random.default_rng(0)

    def run(self) -> Course:
        """Generations until the budget is spent, then the end."""
        below = [0] * len(self.ladder)
        generations = 0
        while not self._over() and generations < _ENOUGH:
            generations += 1
            self._generation(below, undefended=generations == 1)
        scale = 1.0 if self._over() else self._share() and 1 / self._share()
        front = self._front()
        for count, finals in ((front if self._again() else 0, 1), (front, self.search.final_seeds - 1)):
            self._round([cost.whole + cost.look + cost.export for cost in self._drawn(count) for _ in range(finals)])
        self._round([cost.look for cost in self._drawn(front) for _ in range(self.search.looks - 1)])
        return Course(self.seconds * scale, self.device_seconds * scale, round(self.candidates * scale))

    def _generation(self, below: list[int], *, undefended: bool) -> None:
        left = self.budget.amount - self.candidates if self.budget.unit == "candidate" else math.inf
        drawn = self._drawn(int(min(self.search.population, left)))
        self.candidates += len(drawn)
        # The undefended network is trained without attacks, so it is a cheap one, at full length.
        first = [min(cost.whole for cost in self.costs) + drawn[0].look + drawn[0].export] if undefended else []
        last = len(self.ladder) - 1
        for rung in range(len(self.ladder)):
            if rung:
                drawn = drawn[:max(0, math.ceil(below[rung - 1] / self.search.reduction) - below[rung])]
            below[rung] += len(drawn)
            exported = self.ladder[rung].full or self.timed
            anew = rung == last and self.search.full_from_scratch
            self._round(first + [(cost.whole if anew else cost.rungs[rung]) + cost.look + exported * cost.export
                                 for cost in drawn])
            first = []
        if self.search.looks > 1:  # at newcomers of the front, about a third of those that were trained in full
            self._round([cost.look * (self.search.looks - 1) for cost in drawn[:math.ceil(len(drawn) / 3)]])

    def _round(self, tasks: Sequence[float]) -> None:
        """Each task goes to the worker that is free first, and the round lasts until the last one is done."""
        free = [0.0] * self.workers
        for seconds in tasks:
            heapq.heapreplace(free, free[0] + seconds)
        self.seconds += max(free)
        self.device_seconds += sum(tasks)

    def _drawn(self, count: int) -> list[Cost]:
        return [self.costs[place] for place in self.random.integers(len(self.costs), size=count)]

    def _front(self) -> int:
        return min(self.candidates, max(1, self.search.population // 2))

    def _again(self) -> bool:
        """Whether the front has to be trained from scratch in the end."""
        return (bool(self.search.rungs) or self.search.warm_start) and not self.search.full_from_scratch

    def _share(self) -> float:
        reserve = self._front() * self.whole * (self.search.final_seeds - (not self._again()))
        return self.budget.spent(self.candidates, self.seconds + reserve / self.workers, self.device_seconds + reserve)

    def _over(self) -> bool:
        return self._share() >= 1
