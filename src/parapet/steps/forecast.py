"""forecast: how long a search will take, from a few timed steps, before anything long begins.

A step's time is modelled as `passes x (fixed + per FLOP x FLOPs)` for each family of networks, fitted to its middle and
its largest network, times a factor for each layer that FLOPs do not tell of; genomes drawn from the space are timed
too, to give those factors and to say how far off the model is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parapet.config import Params, to_dict
from parapet.data.info import check_files, read_info
from parapet.errors import WorkError
from parapet.processes.pool import Task, Workers
from parapet.search.anchors import anchors as anchors_of
from parapet.search.operators import first_generation
from parapet.search.space import SearchSpace
from parapet.steps import simulation, step_times
from parapet.steps.simulation import Cost, Course
from parapet.steps.step_times import StepTimes

if TYPE_CHECKING:
    from rich.table import Table

_PROBE = "parapet.steps.probe:run"
_SAMPLE = 64
# A search trains other genomes than a sample of its space, and the machine has other things to do: no estimate is
# taken to be better than this.
_AT_LEAST = 0.2
# Of a candidate's timed genomes, between which shares of them the errors of the model are told.
_LOW, _HIGH = 0.1, 0.9


@dataclass(frozen=True)
class Family:
    """What was timed of one backbone: (FLOPs, seconds of a step) of its middle and its largest network, with the most
    expensive recipe; `costs` of the genomes drawn from the space."""

    name: str
    steps: tuple[tuple[int, float], ...]
    costs: tuple[Cost, ...]


@dataclass(frozen=True)
class Forecast:
    """`low`, `middle` and `high` are the whole search if everything takes as little, as long, and as much longer as the
    timed genomes let one expect. `seconds` were spent on timing."""

    families: tuple[Family, ...]
    low: Course
    middle: Course
    high: Course
    devices: tuple[str, ...]
    budget: str
    counted: bool
    seconds: float


def run(params: Params, dataset: Path, *, devices: list[str]) -> Forecast:
    """Time a few steps on `devices`, as many at once as the search will have workers, and simulate the search.

    Writes nothing. Raises WorkError where nothing could be timed.
    """
    info, begun = read_info(dataset), time.monotonic()
    check_files(dataset, info)
    space = SearchSpace(params.search.space, info["image_shape"])
    anchors = {backbone: anchors_of(space, backbone) for backbone in space.choices("backbone")}
    drawn = [space.decode(row) for row in first_generation(space, _SAMPLE, np.random.default_rng(params.seed))]
    tasks = [Task(backbone, _PROBE, {"anchors": [genome.to_dict() for genome in anchors[backbone]],
                                     "sample": [genome.to_dict() for genome in drawn if genome.backbone == backbone],
                                     "params": to_dict(params), "dataset": str(dataset)}, step="timing",
                  about=f"the networks with the backbone {backbone}") for backbone in anchors]
    # As in the search no worker is alone with the machine. One export is enough: it hardly depends on the network.
    tasks = [replace(tasks[place % len(tasks)], arguments={**tasks[place % len(tasks)].arguments,
                                                           "exported": place == 0})
             for place in range(max(len(tasks), len(devices)))]
    started: dict[int, float] = {}
    found: dict[str, dict[str, Any]] = {}
    export = (0.0, 0.0)

    def start_of(place: int, text: str, share: float) -> None:
        started.setdefault(place, time.monotonic() - begun)

    with Workers(devices) as workers:
        for place, outcome in workers.run(tasks, start_of):
            if outcome.result is None:
                raise WorkError(f"{tasks[place].name} could not be timed: {outcome.reason}.")
            if outcome.result["anchors"]:
                found.setdefault(tasks[place].name, outcome.result)
            if "export" in outcome.result:
                export = outcome.result["export"], outcome.result["start"]
    if not found:
        raise WorkError("nothing could be timed: no genome of search.space has a network for such images.")
    families = {name: StepTimes.fit(params, info, {**result, "export": export[0]}) for name, result in found.items()}
    ratios = [pair for model in families.values() for pair in model.ratios()]
    factors = step_times.layer_factors(ratios)
    for model in families.values():
        model.factors = factors
    errors = [ratio / step_times.layered(genome, factors) for genome, ratio in ratios]
    start = min(started.values()) + export[1]
    told = [Family(name, model.largest(), tuple(model.costs())) for name, model in families.items()]
    costs = [cost for family in told for cost in family.costs]
    low, high = _spread(errors)
    fastest, middle, slowest = (simulation.simulate(params, [cost.times(factor) for cost in costs], len(devices), start)
                                for factor in (low, 1.0, high))
    counted = params.search.budget is None or "candidate" in params.search.budget.lower()
    search = params.search
    budget = search.budget or (f"{search.generations} generation{'s' * (search.generations > 1)} of "
                               f"{search.population}")
    return Forecast(tuple(told), fastest, middle, slowest, tuple(devices), budget, counted, time.monotonic() - begun)


def sentence(found: Forecast) -> str:
    """The whole search in a sentence."""
    low, middle, high = (found.low, found.middle, found.high)
    where = f"{len(found.devices)} {'workers' if len(found.devices) > 1 else 'worker'} ({found.devices[0]})"
    if found.counted:
        took = f"about {duration(middle.seconds)}, between {duration(low.seconds)} and {duration(high.seconds)}"
    else:
        took = (f"about {middle.candidates:,} candidates in {duration(middle.seconds)}, between {high.candidates:,} "
                f"and {low.candidates:,}")
    return (f"{found.budget} on {where}: {took}; about {rounded(middle.per_hour)} candidates an hour "
            f"({rounded(high.per_hour)} to {rounded(low.per_hour)}). Timed in {duration(found.seconds)}; nothing was "
            "trained or written.")


def table(found: Forecast) -> Table:
    """A row a family: its networks, its most expensive step, and what a candidate takes at full training."""
    from rich.table import Table

    shown = Table(title="timed steps, and candidates drawn from the space", title_justify="left")
    for name in ("family", "FLOPs", "a step", "a candidate"):
        shown.add_column(name, justify="left" if name == "family" else "right",
                         no_wrap=name != "family")
    for family in found.families:
        totals = sorted(cost.whole + cost.look + cost.export for cost in family.costs)
        flops = [f"{rounded(flops)}" for flops, _ in family.steps]
        steps = [f"{1000 * seconds:.3g}" for _, seconds in family.steps]
        shown.add_row(family.name, " to ".join(flops), " to ".join(steps) + " ms",
                      f"{duration(quantile(totals, _LOW))} to {duration(quantile(totals, _HIGH))}")
    return shown


def duration(seconds: float) -> str:
    """4.2 s, 51 s, 3 min, 2.5 h, 4 days: as exactly as an estimate deserves."""
    for limit, size, unit in ((10, 1, "s"), (100, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 and unit != "min" else f"{max(1, round(value))} {unit}"
    return f"{round(seconds / 86_400)} days"


def rounded(value: float) -> str:
    """To two digits: 123456 as 120,000."""
    digits = max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 0
    return f"{round(value / 10**digits) * 10**digits:,}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted `values` lie."""
    return values[min(len(values) - 1, int(share * len(values)))]


def _spread(errors: Sequence[float]) -> tuple[float, float]:
    """Factors below and above 1 between which the time is expected, from those of single genomes."""
    ordered = sorted(errors) or [1.0]
    return (min(1 / (1 + _AT_LEAST), quantile(ordered, _LOW)), max(1 + _AT_LEAST, quantile(ordered, _HIGH)))
