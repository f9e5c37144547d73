"""forecast: estimates how long a search will take, by timing a few candidates of its space.

The candidates are drawn like the first generation, and each goes through shortened steps of the search
(`timed_candidate`). The rest is computed and not run: how many candidates each rung trains, and how many are trained
again at the end.
"""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parapet.config import Params, to_dict
from parapet.data.info import check_files, read_info
from parapet.errors import WorkError
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.processes.pool import Task, Workers
from parapet.progress import Progress
from parapet.search.budget import Budget
from parapet.search.network_space import SearchSpace
from parapet.search.operators import first_generation

if TYPE_CHECKING:
    from rich.table import Table

_TIMED = "parapet.forecast.timed_candidate:run"
# The least and the greatest number of timed candidates; between them, two for each worker.
_LEAST, _MOST = 6, 12
# The least relative error of an estimate: later generations have other genomes, and the load of the machine varies.
_AT_LEAST = 0.25
# The number of bootstrap samples, and the quantiles between which the time is expected.
_DRAWS, _LOW, _HIGH = 1000, 0.1, 0.9


@dataclass(frozen=True)
class Timed:
    """Seconds of one candidate: an epoch over all training images, an attack evaluation, an export."""

    genome: Genome
    epoch: float
    attacks: float
    export: float


@dataclass(frozen=True)
class Cost:
    """The cost of a whole search: wall-clock time in seconds, and the number of candidates."""

    seconds: float
    candidates: float

    @property
    def per_hour(self) -> float:
        """Candidates per hour."""
        return 3600 * self.candidates / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Forecast:
    """The estimate for a whole search.

    low, middle, high: its cost at the lower bound, the estimate and the upper bound. budget: the budget of the search
    in words; counted: whether it is a number of candidates. whole: for each timed candidate, the seconds that it takes
    if trained in full. spent: the seconds that the timing took.
    """

    timed: tuple[Timed, ...]
    low: Cost
    middle: Cost
    high: Cost
    devices: tuple[str, ...]
    budget: str
    counted: bool
    whole: tuple[float, ...]
    spent: float


def run(params: Params, dataset: Path, *, devices: list[str]) -> Forecast:
    """Time some candidates on `devices`, one entry per worker as in the search, and estimate the cost of the search.

    No files are kept. Raises WorkError where no candidate could be timed.
    """
    info, begun = read_info(dataset), time.monotonic()
    check_files(dataset, info)
    space = SearchSpace(params.search.space, info["image_shape"])
    count = max(_LEAST, min(_MOST, 2 * len(devices)))
    drawn = [space.decode(row) for row in first_generation(space, count, np.random.default_rng(params.seed))]
    tasks = [Task(f"candidate {place + 1}", _TIMED, {"genome": genome.to_dict(), "params": to_dict(params),
                                                     "dataset": str(dataset)}, step="timing", about=str(genome))
             for place, genome in enumerate(drawn)]
    timed, waits, reasons = [], [], []
    with (Progress("timing", len(tasks), "candidates of the space") as progress,
          Workers(devices, attempts=params.search.attempts) as workers):
        for done, (place, outcome) in enumerate(workers.run(tasks), start=1):
            progress.update(done, "")
            if outcome.result is None or "reason" in outcome.result:
                reasons.append(outcome.reason or (outcome.result or {}).get("reason") or "no reason is known")
            else:
                waits.append(outcome.result.pop("wait"))
                timed.append(Timed(drawn[place], **outcome.result))
    if not timed:
        raise WorkError(f"nothing could be timed: {reasons[0].rstrip('.')}.")
    low, middle, high = (search_cost(params, timed, len(devices), factor, max(waits))
                         for factor in spread(params, timed))
    counted = params.search.budget is None or "candidate" in params.search.budget.lower()
    search = params.search
    budget = search.budget or (f"{search.generations} generation{'s' * (search.generations > 1)} of "
                               f"{search.population}")
    return Forecast(tuple(timed), low, middle, high, tuple(devices), budget, counted,
                    tuple(scratch(params, one) for one in timed), time.monotonic() - begun)


def scratch(params: Params, one: Timed) -> float:
    """Seconds of a candidate that is trained in full from the start, attacked and exported."""
    return one.epoch * params.training.epochs + one.attacks + one.export


def climbing(params: Params, one: Timed) -> float:
    """Seconds of a candidate that starts at the lowest rung; each rung is weighted by the share that reaches it."""
    search, seconds, share, behind = params.search, 0.0, 1.0, 0
    for fidelity in Fidelity.ladder(search.rungs, params.training.epochs):
        epochs = fidelity.epochs - (0 if fidelity.full and search.full_from_scratch else behind)
        exported = fidelity.full or "latency_ms" in search.objectives
        seconds += share * (epochs * fidelity.data_share * one.epoch + one.attacks + exported * one.export)
        share, behind = share / search.reduction, fidelity.epochs
    return seconds


def search_cost(params: Params, timed: Sequence[Timed], workers: int, factor: float, wait: float) -> Cost:
    """The cost of a search whose candidates take `factor` times as long as the timed ones; adds `wait` seconds."""
    search = params.search
    budget = Budget.parse(search.budget, search.population, search.generations)
    mean = factor * statistics.fmean(climbing(params, one) for one in timed)
    last = factor * statistics.fmean(scratch(params, one) for one in timed)
    evaluation = factor * statistics.fmean(one.attacks for one in timed)
    waiting = idle(params, timed, workers)

    def device_seconds(candidates: float) -> float:
        """Seconds of all workers together, for the candidates, the undefended network and the trainings at the end.

        Assumes that half of a population is on the front at the end, and that repeated evaluations are made of these
        and of one in three of the candidates that are trained in full.
        """
        front = min(candidates, max(1, search.population // 2))
        again = bool(search.rungs or search.warm_start) and not search.full_from_scratch
        end = front * last * (search.final_seeds - 1 + again)
        evaluated = front + candidates / 3 / search.reduction ** len(search.rungs)
        return float(candidates * mean + last + end + (search.evaluations - 1) * evaluation * evaluated)

    def seconds(candidates: float) -> float:
        return wait + device_seconds(candidates) * waiting / workers

    if budget.unit == "candidate":
        return Cost(seconds(budget.amount), budget.amount)
    # Linear in the number of candidates, if this is greater than the number of those on the front.
    ends = [(count, device_seconds(count), seconds(count)) for count in (1000.0, 2000.0)]
    place = 1 if budget.unit == "gpu-hour" else 2
    slope = (ends[1][place] - ends[0][place]) / 1000
    allowed = budget.amount * (60.0 if budget.unit == "minute" else 3600.0)
    candidates = max(1.0, 1000 + (allowed - ends[0][place]) / slope)
    return Cost(seconds(candidates), candidates)


def idle(params: Params, timed: Sequence[Timed], workers: int) -> float:
    """The time of a generation relative to perfectly balanced workers: it ends with its last candidate."""
    generator, costs = np.random.default_rng(0), [climbing(params, one) for one in timed]
    took = worked = 0.0
    for _ in range(100):
        drawn = generator.choice(costs, params.search.population)
        free = [0.0] * workers
        for seconds in drawn:
            heapq.heapreplace(free, free[0] + seconds)
        took, worked = took + max(free), worked + drawn.sum() / workers
    return took / worked


def spread(params: Params, timed: Sequence[Timed]) -> tuple[float, float, float]:
    """Factors (low, 1, high) for the mean cost of a candidate: its 80 % bootstrap interval, widened to `_AT_LEAST`."""
    costs = np.array([climbing(params, one) for one in timed])
    draws = np.random.default_rng(0).choice(costs, (_DRAWS, len(costs))).mean(axis=1) / costs.mean()
    low, high = np.quantile(draws, (_LOW, _HIGH))
    return min(float(low), 1 / (1 + _AT_LEAST)), 1.0, max(float(high), 1 + _AT_LEAST)


def sentence(found: Forecast) -> str:
    """The estimate for the whole search, in words."""
    low, middle, high = (found.low, found.middle, found.high)
    where = f"{len(found.devices)} {'workers' if len(found.devices) > 1 else 'worker'} ({found.devices[0]})"
    if found.counted:
        took = f"about {duration(middle.seconds)}, between {duration(low.seconds)} and {duration(high.seconds)}"
    else:
        took = (f"about {rounded(middle.candidates)} candidates in {duration(middle.seconds)}, between "
                f"{rounded(high.candidates)} and {rounded(low.candidates)}")
    return (f"{found.budget} on {where}: {took}; about {rounded(middle.per_hour)} candidates an hour "
            f"({rounded(high.per_hour)} to {rounded(low.per_hour)}). Timed {len(found.timed)} candidates in "
            f"{duration(found.spent)}; nothing was kept.")


def table(found: Forecast) -> Table:
    """A row for each timed candidate."""
    from rich.table import Table

    shown = Table(title="timed candidates of the space", title_justify="left")
    for name in ("candidate", "an epoch", "attacks", "export", "in all"):
        shown.add_column(name, justify="left" if name == "candidate" else "right", no_wrap=name != "candidate")
    for one, whole in sorted(zip(found.timed, found.whole), key=lambda pair: pair[1]):
        shown.add_row(str(one.genome), *map(duration, (one.epoch, one.attacks, one.export, whole)))
    return shown


def duration(seconds: float) -> str:
    """A time in words, rounded as an estimate: 4.2 s, 51 s, 3 min, 2.5 h, 4 days."""
    for limit, size, unit in ((10, 1, "s"), (100, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 and unit != "min" else f"{max(1, round(value))} {unit}"
    return f"{round(seconds / 86_400)} days"


def rounded(value: float) -> str:
    """`value` rounded to two significant digits: 120,000 for 123456."""
    digits = max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 0
    return f"{round(value / 10**digits) * 10**digits:,}"
