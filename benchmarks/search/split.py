"""Two workers of one thread against one worker of one thread and one of two, on the same search of small nets."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from parapet.errors import WorkError

# (workers, threads); the first is what `workers: auto` makes of two cores.
SPLITS = ((2, 1), (1, 1), (1, 2))
AIM = 1.4
POPULATION, GENERATIONS, EPOCHS = 6, 2, 8


def seconds(dataset: Path, workers: int, threads: int, *, population: int, generations: int, epochs: int) -> float:
    """Of the clock, for `parapet search` from nothing, in processes of its own."""
    params = {"tracking": {"enabled": False}, "device": "cpu", "training": {"epochs": epochs},
              "attack_evaluation": {"suite": "pgd", "pgd_steps": 12},
              "search": {"population": population, "generations": generations, "workers": workers, "threads": threads}}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "params.yaml").write_text(yaml.safe_dump(params))
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "parapet.cli", "search", "--params", str(home / "params.yaml"),
                               "--dataset", str(dataset), "--out", str(home / "out"), "--cache", str(home / "cache")],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkError(f"the search on {workers} x {threads} failed: {done.stderr.strip()}")
        return time.perf_counter() - started


def compare(dataset: Path, say: Callable[[str], None], *, repeats: int = 3, population: int = POPULATION,
            generations: int = GENERATIONS, epochs: int = EPOCHS) -> float:
    """Run every split `repeats` times, in turns; says the medians and returns how many times faster the first one is
    than the best of the others."""
    times: dict[tuple[int, int], list[float]] = {split: [] for split in SPLITS}
    for _, split in itertools.product(range(repeats), SPLITS):
        times[split].append(seconds(dataset, *split, population=population, generations=generations, epochs=epochs))
        say(f"{_name(split)}: {times[split][-1]:.1f} s")
    middle = {split: median(found) for split, found in times.items()}
    ratios = {split: middle[split] / middle[SPLITS[0]] for split in SPLITS[1:]}
    for split, ratio in ratios.items():
        say(f"{_name(SPLITS[0])} is {ratio:.2f} times as fast as {_name(split)} "
            f"({middle[SPLITS[0]]:.1f} s and {middle[split]:.1f} s, medians of {repeats})")
    say(f"against the best single worker: {min(ratios.values()):.2f} times as fast; aim: at least {AIM}")
    return min(ratios.values())


def median(values: Sequence[float]) -> float:
    """The middle one, of an even number the faster of the two in the middle."""
    return sorted(values)[(len(values) - 1) // 2]


def _name(split: tuple[int, int]) -> str:
    workers, threads = split
    return f"{workers} worker{'s' * (workers > 1)} x {threads} thread{'s' * (threads > 1)}"
