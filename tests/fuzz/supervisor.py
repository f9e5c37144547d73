"""Watches the process that runs cases: ends a case that hangs or takes too much memory, and goes on behind it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.fuzz.child import CASE

ROOT = Path(__file__).parent.parent.parent
MOST_BYTES = 2 * 10**9
# Of the clock: on a busy machine a case gets little of the processor.
_LONGEST_WAIT, _LONGEST_START = 240.0, 400.0
_LOOK = 0.1
OUTCOMES = ("accepted", "refused", "traceback", "hang", "memory", "nonsense")


@dataclass(frozen=True)
class Wrong:
    """A case that ended badly."""

    number: int
    outcome: str
    why: str
    content: bytes


@dataclass
class Counts:
    """How many cases ended how, and which of them ended badly."""

    part: str
    seed: int
    cases: int = 0
    by_outcome: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    wrong: list[Wrong] = field(default_factory=list)

    def add(self, number: int, outcome: str, why: str, folder: Path) -> None:
        """Count one case, which stands in `folder`."""
        self.cases += 1
        self.by_outcome[outcome] += 1
        if outcome not in ("accepted", "refused"):
            self.wrong.append(Wrong(number, outcome, why, (folder / CASE).read_bytes()))


class Enough(Exception):
    """What `tell` raises to end a run before its last case."""


def run(part: str, seed: int, start: int, count: int, *, tell: Callable[[int, Counts], None] = lambda done, counts: None
        ) -> Counts:
    """Run cases `start` to `start + count` of a part in child processes; returns the counts.

    `tell` is called after each case, with how many are done.
    """
    counts, number, end = Counts(part, seed), start, start + count
    with tempfile.TemporaryDirectory(prefix="parapet-fuzz-") as folder, suppress(Enough):
        while number < end:
            with _Child(part, seed, number, end, Path(folder)) as child:
                number = child.follow(counts, tell, start)
    return counts


class _Child:
    def __init__(self, part: str, seed: int, start: int, end: int, folder: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
                       "PYTHONFAULTHANDLER": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.child", part, str(seed), str(start), str(end), str(folder)], cwd=ROOT,
            env=environment, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True)
        self._watched, self._end = psutil.Process(self._process.pid), end
        self._start, self._folder = start, folder
        self._rest, self._most_seconds = b"", 0.0

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def follow(self, counts: Counts, tell: Callable[[int, Counts], None], first: int) -> int:
        """Count what the child says until it ends or is ended; returns the next case that is to run."""
        running, began, processor, at_rest = None, time.monotonic(), 0.0, 0
        ready = False
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            number = self._start
            while number < self._end:
                if not selector.select(_LOOK):
                    if not ready and time.monotonic() - began > _LONGEST_START:
                        raise RuntimeError(f"the part {counts.part} does not begin: {self._said()}")
                    if running is not None and (why := self._excess(began, processor)):
                        counts.add(running, *why, self._folder)
                        return running + 1
                    continue
                block = os.read(self._process.stdout.fileno(), 1 << 16)
                if not block:
                    if running is None:
                        raise RuntimeError(f"the part {counts.part} ended before a case began: {self._said()}")
                    counts.add(running, "traceback", f"the process died ({self._process.wait()}): {self._said()}",
                               self._folder)
                    return running + 1
                for message in self._messages(block):
                    if "ready" in message:
                        ready, at_rest = True, self._memory()
                        self._most_seconds = message["seconds"]
                    elif "begin" in message:
                        running, began, processor = message["begin"], time.monotonic(), self._processor()
                    else:
                        outcome, why = message["outcome"], message["why"]
                        if message["cpu"] > self._most_seconds:
                            outcome, why = "hang", f"{message['cpu']:.0f} seconds of the processor"
                        elif message["peak"] > MOST_BYTES + at_rest:
                            outcome, why = "memory", f"{message['peak'] / 1e9:.1f} GB"
                        counts.add(message["end"], outcome, why, self._folder)
                        number, running = message["end"] + 1, None
                        tell(number - first, counts)
                        if outcome == "memory":
                            return number  # a peak does not sink again
        return number

    def _messages(self, block: bytes) -> list[dict[str, Any]]:
        *lines, self._rest = (self._rest + block).split(b"\n")
        return [json.loads(line) for line in lines]

    def _excess(self, began: float, processor: float) -> tuple[str, str] | None:
        memory, spent = self._memory(), self._processor() - processor
        if memory > 1.5 * MOST_BYTES:
            return "memory", f"{memory / 1e9:.1f} GB and more"
        if spent > self._most_seconds or time.monotonic() - began > _LONGEST_WAIT:
            return "hang", f"{spent:.0f} s of the processor, {time.monotonic() - began:.0f} s of the clock, and more"
        return None

    def _memory(self) -> int:
        try:
            return self._watched.memory_info().rss
        except psutil.Error:
            return 0

    def _processor(self) -> float:
        try:
            times = self._watched.cpu_times()
            return times.user + times.system
        except psutil.Error:
            return 0.0

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-1500:].decode(errors="replace")
