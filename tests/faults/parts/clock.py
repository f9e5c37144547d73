"""The clock set back or forward, before a verb and in the middle of it, and files from the future.

Python's `time.time` is shown another clock (libfaketime breaks `time.sleep` of Python 3.11, which waits by the clock
that cannot be set).
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.bench import Bench, Result
from tests.faults.processes import Case
from tests.faults.verbs import VERBS, Verb

_ORDER = ("search", "promote, second", "data_prep", "front", "search, tracked", "promote", "train", "sync",
          "full_evaluation", "report, tracked", "rollback", "attack", "data fetch", "run", "promote --to", "report",
          "archive verify", "pipelines compile", "select", "check")
_DURATION = re.compile(r"seconds|_ms$|^p\d\d$|^time$|duration")
_DAY = 86_400
# Setting a clock back by a day must not make anybody wait for a day.
_KILLED_FIRST = ("promote", "promote, second", "promote --to", "search", "search, tracked", "train", "sync")


def impossible() -> str | None:
    """Python shows its processes any clock."""
    return None


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """A verb under a clock that jumps, and once more under the right one."""
    chance = random.Random(f"clock {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    reference = bench.reference(verb)
    bench.project.restore(verb.stage)
    kinds = ["back from the beginning", "back in the middle", "forward in the middle", "files of the future"]
    kind = chance.choice([*kinds, "killed, then back"] if verb.name in _KILLED_FIRST else kinds)
    seconds = chance.choice((90, 3_700, _DAY, 400 * _DAY))
    result = Result(verb.name, f"{kind}, {seconds:,} s")
    with bench.case() as case:
        clock = case.folder / "clock"
        clock.write_text("0")
        clock.chmod(0o644)
        own = {"PARAPET_FAULTS_CLOCK": str(clock)}
        if kind == "files of the future":
            _touch(bench.project.place, time.time() + seconds)
        if kind == "killed, then back":
            running = case.start(bench.words(verb))
            result.kills += not running.ends_within(chance.uniform(0.3, 1.0) * reference.seconds)
            running.kill("group")
            running.end(30)
        if "back" in kind and "middle" not in kind:
            clock.write_text(f"-{seconds}")
        running = case.start(bench.words(verb), own)
        if "middle" in kind:
            running.ends_within(chance.uniform(0.1, 0.9) * reference.seconds)
            clock.write_text(f"{'-' if 'back' in kind else ''}{seconds}")
        bench.judge(verb, running.end(bench.limit(verb)), case, [0], result)
        result.fault = result.fault or _negative(bench.project.place)
        return result if result.fault else _under_the_right_clock(bench, verb, case, result)


def _under_the_right_clock(bench: Bench, verb: Verb, case: Case, result: Result) -> Result:
    """What a wrong clock has left is no obstacle later. A second rollback undoes the first."""
    if verb.name == "rollback":
        return result
    return bench.judge(verb, case.run(bench.words(verb), bench.limit(verb)), case, [0], result)


def _touch(folder: Path, when: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (when, when))


def _negative(folder: Path) -> str | None:
    """A duration below zero in a file that a verb left."""
    for path in sorted(folder.rglob("*.json")):
        try:
            found = next((f"{name} is {value}" for name, value in _numbers(json.loads(path.read_text())) if value < 0),
                         None)
        except (ValueError, OSError):
            continue
        if found:
            return f"{path.relative_to(folder)}: {found}"
    return None


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool) and _DURATION.search(name):
        yield name, value
