"""Which search is worth its training time: many seeds of each replayed, medians with intervals, and the record of it.

Aim: in a fifth of plain NSGA-II's training time the hypervolume that it reaches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as Printed

from benchmarks.search.fidelities import agreement
from benchmarks.search.replay import Curve, Table
from benchmarks.search.strategies import PLAIN, STRATEGIES, Limit, optuna_version
from parapet.disk.files import write_text

SCHEMA_VERSION = 1
RECORD = Path("benchmarks/results/search-replay.json")
SPLITS = ("validation", "test")
SHARE = 0.2
_RESAMPLES = 2000


def replay_all(table: Table, *, seeds: int, population: int, generations: int,
               say: Callable[[str], None]) -> dict[str, Any]:
    """The record: every curve of every strategy, what they come to, and how far the fidelities agree.

    Plain NSGA-II has `generations` of `population` full trainings, or half of the table where that is less; the others
    have the median of its training time, and end their last generation.
    """
    version, trainings = optuna_version(), min(generations * population, len(table) // 2)
    runs: dict[str, list[list[list[float]]]] = {}
    limit = Limit(trainings=trainings)
    for name in (PLAIN, *(name for name in STRATEGIES if name != PLAIN)):
        done = [STRATEGIES[name](table, seed, population, limit) for seed in range(seeds)]
        runs[name] = [[[round(value, 5) for value in row] for row in replay.points] for replay in done]
        if name == PLAIN:
            limit = Limit(seconds=float(np.median([replay.seconds for replay in done])))
        say(f"{name}: {seeds} seeds")
    record = {"schema_version": SCHEMA_VERSION, "title": table.title, "genomes": len(table), "of": table.whole,
              "seeds": seeds, "population": population, "trainings": trainings, "seconds": round(limit.seconds, 3),
              "optuna": version}
    return {**record, "verdict": {split: verdict(runs, limit.seconds, split) for split in SPLITS},
            "fidelities": agreement(table), "points": runs}


def verdict(runs: dict[str, list[list[list[float]]]], seconds: float, split: str) -> dict[str, Any]:
    """{level, strategies}: the hypervolume that plain NSGA-II ends with in the median of its seeds, and for each
    strategy when it is there.

    Of a strategy: `reached`, the share of seeds that are at the level within `seconds`; `ratio`, the time after
    which half of the seeds are, over `seconds`; `fifth` and `end`, the median hypervolume after a fifth of `seconds`
    and after all. Each as [median, low, high] with a 95 % percentile bootstrap interval over seeds, None for more than
    all the time; plain's seeds are drawn anew with the others', so that the level's own doubt is in the ratio.
    """
    curves = {name: [Curve(points, split) for points in found] for name, found in runs.items()}
    ends = np.array([curve.at(np.inf) for curve in curves[PLAIN]])
    level, random = float(np.median(ends)), np.random.default_rng(0)
    levels = np.median(ends[random.integers(len(ends), size=(_RESAMPLES, len(ends)))], axis=1)
    found = {}
    for name, several in curves.items():
        # Plain seeds may train for longer than the median of them does, and are judged by all they did.
        within = np.inf if name == PLAIN else seconds
        draws = random.integers(len(several), size=(_RESAMPLES, len(several)))
        times = np.array([_times(several, one, within) for one in (level, *levels)]) / seconds
        middles = [_middle(times[0]), *(_middle(row[draw]) for row, draw in zip(times[1:], draws))]
        found[name] = {"reached": float(np.isfinite(times[0]).mean()), "ratio": _summary(middles),
                       **{when: _summary([np.median(values), *np.median(values[draws], axis=1)])
                          for when, values in (("fifth", np.array([curve.at(SHARE * seconds) for curve in several])),
                                               ("end", np.array([curve.at(within) for curve in several])))}}
    return {"level": level, "strategies": found}


def drawn(record: dict[str, Any], split: str) -> Printed:
    """The verdict on one split as a table to print."""
    found, seconds = record["verdict"][split], record["seconds"]
    printed = Printed(title=(
        f"{record['title']}\n{record['seeds']} seeds, population {record['population']}; hypervolume on {split}\n"
        f"plain NSGA-II reaches {found['level']:.4f} in {record['trainings']} full trainings, {seconds:.0f} s"))
    for name in ("strategy", "its time over plain's (95 %)", "seeds that reach it", "after a fifth of the time",
                 "in the end"):
        printed.add_column(name, justify="left" if name == "strategy" else "right")
    for name, row in found["strategies"].items():
        printed.add_row(name, _interval(row["ratio"], 2), f"{row['reached']:.0%}", _interval(row["fifth"], 3),
                        _interval(row["end"], 3))
    return printed


def sentence(record: dict[str, Any], name: str, split: str) -> str:
    """Whether the aim is met by the strategy `name`."""
    found = record["verdict"][split]
    middle, _, high = found["strategies"][name]["ratio"]
    level = found["level"]
    what = f"{name}, on {split}: the hypervolume {level:.4f} that plain NSGA-II reaches"
    if middle is None:
        return f"{what} is not reached in its training time by half of the seeds; the aim of a fifth is missed."
    met = "met" if high is not None and high <= SHARE else "missed" if middle > SHARE else "met in the median alone"
    return f"{what} takes {middle:.2f} of its training time; the aim of a fifth is {met}."


def write(path: Path, record: dict[str, Any]) -> None:
    """Strict JSON, one line for each replayed search."""
    head = {key: value for key, value in record.items() if key != "points"}
    lines = ",\n".join(f"{json.dumps(name)}: [\n" + ",\n".join(
        json.dumps(points, allow_nan=False, separators=(",", ":")) for points in runs) + "]"
        for name, runs in record["points"].items())
    text = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    write_text(path, f'{text},\n "points": {{{lines}}}\n}}\n')


def _times(curves: Sequence[Curve], level: float, within: float) -> list[float]:
    found = (curve.reaches(level, within) for curve in curves)
    return [np.inf if seconds is None else seconds for seconds in found]


def _middle(values: np.ndarray) -> float:
    """When half of the seeds have got there."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def _summary(values: Sequence[float]) -> list[float | None]:
    """The first of `values`, and where the middle 95 % of the others end; no interpolation next to infinity."""
    rest = np.quantile(np.array(values[1:]), (0.025, 0.975), method="nearest")
    return [round(float(value), 5) if np.isfinite(value) else None for value in (values[0], *rest)]


def _interval(values: Sequence[float | None], digits: int) -> str:
    middle, low, high = ("> 1" if value is None else f"{value:.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})" if low != high else middle
