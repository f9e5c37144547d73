"""What the search itself costs: milliseconds a candidate beside archives of up to 10,000, and its share of real ones.

The evaluator is a formula; journal, course, evolution, archive and display are the real ones.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parapet.config import Params, parse
from parapet.intervals import wilson
from parapet.processes.pool import Task, TaskResult
from parapet.search.display import Display
from parapet.search.feasibility import record_of
from parapet.search.front import rank_order
from parapet.search.journal import Journal
from parapet.search.session import proposal_of
from parapet.steps import search
from parapet.steps.bench import Bench
from parapet.store import records as store
from parapet.store.records import Parent, Proposal, Record, Request
from parapet.store.search_folder import ARCHIVE
from parapet.tracking import NullTracker

SIZES = (100, 1000, 10_000)
INFO = {"name": "digits", "classes": list("0123456789"), "image_shape": [1, 8, 8], "fingerprint": "0" * 64,
        "images": {"train": 1079, "validation": 359, "test": 359}}
POPULATION = 8
RUNGS = [{"epochs": 1, "crafting": "n_fgsm"}, {"epochs": 3}]
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {}, "rungs": {"rungs": RUNGS, "evaluations": 2},
    "rungs, warm starts": {"rungs": RUNGS, "warm_start": True},
    "forest": {"surrogate": "forest"},
    "all of them": {"rungs": RUNGS, "evaluations": 2, "warm_start": True, "surrogate": "forest"}}
LIMIT_MS, LIMIT_READ = 50.0, 1.0
_IMAGES, _GENERATIONS = 359, 4


class Formula:
    """Stands where the worker processes do: every task is done at once, by a formula of its genome."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def run(self, tasks: Sequence[Task], on_progress: Callable[[int, str, float], None] = lambda *_: None,
            on_wait: Callable[[], None] = lambda: None) -> Iterator[tuple[int, TaskResult]]:
        """As `Workers.run` does."""
        for place, task in enumerate(tasks):
            on_progress(place, "epoch 1/8", 0.1)
            yield place, TaskResult(measured(Proposal.from_json(task.arguments["proposal"]), self.params).to_json())
            on_wait()


def measured(proposal: Proposal, params: Params) -> Record:
    """The archive record of `proposal`: wider and deeper is better and dearer, and the genome's digest is noise."""
    genome = proposal.genome
    size = math.log2(genome.width * genome.depth) / 5
    noise = int(genome.digest()[:6], 16) / 16**6
    trained = proposal.fidelity.epochs / params.training.epochs
    robust = round(_IMAGES * min(1.0, 0.3 * size + 0.2 * noise + 0.3 * trained))
    clean = min(_IMAGES, robust + round(_IMAGES * 0.2))
    flops = int(10**(4 + 2 * size + noise))
    evaluation = {"n": _IMAGES, "clean_accuracy": clean / _IMAGES, "clean_interval": list(wilson(clean, _IMAGES)),
                  "robust_accuracy": robust / _IMAGES, "robust_interval": list(wilson(robust, _IMAGES)),
                  "attacks": {name: {"alone": robust / _IMAGES, "left": None}
                              for name in ("fgsm", "pgd_ce", "pgd_margin")}}
    latency = {**dict.fromkeys(("p50", "p90", "p99", "mean"), flops / 1e8), "runs": 200, "batch": 1, "threads": 1,
               "machine": "none", "onnxruntime": "0", "providers": ["CPUExecutionProvider"]}
    return record_of(proposal, [
        {"status": "done", "flops": flops, "params": flops // 10, "training_seconds": 2.0, "training_flops": flops},
        {"status": "done", "evaluation": evaluation, "audit": {"verdict": "pass", "checks": []}},
        {"status": "done", "latency_ms": latency}], params)


def settings(name: str) -> Params:
    """params.yaml of one of `SETTINGS`, with a budget that never ends."""
    return parse(Params, {"tracking": {"enabled": False}, "training": {"epochs": 9}, "search": {
        "population": POPULATION, "budget": "1000000 candidates", **SETTINGS[name]}})


def grown(home: Path, params: Params, size: int) -> None:
    """A search in the folder `home` whose archive has `size` candidates, the last of them by its own schedule."""
    journal = Journal.open(home, params, INFO, "cpu", 2)
    with contextlib.redirect_stdout(io.StringIO()):
        _generations(journal, params, home.parent, 2)
    schedule = journal.session.schedule
    space = schedule.evolution.space
    random = np.random.default_rng(0)
    known, drawn = {record.id for record in journal.session.records}, []
    # As successive halving leaves it: of each rung the best third is promoted.
    share = sum(3.0**-rung for rung in range(len(schedule.ladder)))
    below = [(space.decode(random.integers(space.upper + 1)), None) for _ in range(int((size - len(known)) / share))]
    made: list[Record] = []
    for fidelity in schedule.ladder:
        proposals = [proposal_of(Request(genome, fidelity, parent), params, INFO, "cpu", 0)
                     for genome, parent in below]
        drawn = [measured(proposal, params) for proposal in {each.id: each for each in proposals}.values()
                 if proposal.id not in known]
        made += drawn
        best = rank_order(drawn, params.search.objectives)[:math.ceil(len(drawn) / 3)]
        below = [(drawn[place].genome, Parent(drawn[place].training_key, "promoted", fidelity.epochs))
                 for place in best]
    store.append(home / ARCHIVE, made)


def _generations(journal: Journal, params: Params, cache: Path, count: int) -> tuple[float, float, int]:
    """Seconds of the clock and of this process's processor for `count` generations, and how many candidates they
    measured."""
    session = journal.session
    before, goal = len(session.records), session.schedule.generation + count
    with Display(journal, watch=False) as display:
        started, used = time.perf_counter(), time.process_time()
        bench = Bench(journal, cache / "dataset", cache, Formula(params), display, NullTracker(), "", {})
        while session.schedule.generation < goal:
            proposals = journal.ask()
            for note in journal.notes():
                display.note(note)
            journal.tell(proposals, bench.measure(proposals))
            session.finish()
        return time.perf_counter() - started, time.process_time() - used, len(session.records) - before


def at(size: int, name: str) -> dict[str, float]:
    """{milliseconds a candidate by the clock, cpu: and of the processor, read: seconds to read the archive} of the
    setting `name` beside `size` candidates."""
    params = settings(name)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "search"
        grown(home, params, size)
        started = time.perf_counter()
        store.read(home / ARCHIVE)
        read = time.perf_counter() - started
        journal = Journal.open(home, params, INFO, "cpu", 2)
        with contextlib.redirect_stdout(io.StringIO()):
            _generations(journal, params, Path(folder), 1)  # imports
            seconds, used, count = _generations(journal, params, Path(folder), _GENERATIONS)
    return {"milliseconds": 1000 * seconds / count, "cpu": 1000 * used / count, "read": read}


def shares(params: Path, dataset: Path) -> dict[str, float]:
    """What a real `parapet search` spends beside its workers, as shares of its wall time.

    cpu: of the parent process alone, without its start. between: of the time in which no worker had a task, between the
    first task and the last. start: until the first worker began. waiting: workers without a task while others of a
    round were not done, as a share of all workers' time.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = "from benchmarks.search import overhead; import sys; overhead.observed(*sys.argv[1:])"
        done = subprocess.run([sys.executable, "-c", code, str(params), str(dataset), folder], text=True, check=False,
                              capture_output=True, env={**os.environ, "COLUMNS": "200"})
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        words = done.stdout.splitlines()[-1].split()
    return dict(zip(words[::2], map(float, words[1::2])))


def observed(params_path: str, dataset: str, folder: str) -> None:
    """A search in this process, watched: prints the shares of `shares` as the last line."""
    from parapet.config import load
    from parapet.devices import resolve
    from parapet.processes.pool import Workers
    from parapet.tracking import NullTracker

    params = load(Path(params_path))
    devices = resolve(params.device, workers=params.search.workers, threads=params.search.threads)
    clock = _Clock(len(devices))
    run = Workers.run

    def watched(self: Workers, tasks: Sequence[Task], on_progress: Callable[[int, str, float], None],
                on_wait: Callable[[], None]) -> Iterator[tuple[int, TaskResult]]:
        clock.begin(len(tasks))

        def progress(place: int, text: str, share: float) -> None:
            clock.first()
            on_progress(place, text, share)
        for place, outcome in run(self, tasks, progress, on_wait):
            clock.done(outcome.seconds)
            yield place, outcome
        clock.end()

    Workers.run = watched
    cpu = time.process_time()
    search.run(params, Path(dataset), Path(folder) / "out", Path(folder) / "cache", devices=devices,
               tracker=NullTracker())
    print(" ".join(f"{name} {value}" for name, value in clock.told(time.process_time() - cpu).items()))


class _Clock:
    """When the workers of a search had something to do."""

    def __init__(self, workers: int) -> None:
        self.workers, self.started = workers, time.perf_counter()
        self.begun = self.ended = self.rounds = self.busy = self.lasted = self.between = 0.0
        self.answered = 0.0

    def begin(self, tasks: int) -> None:
        now = time.perf_counter()
        if self.ended:
            self.between += now - self.ended
        self.begun, self.rounds = now, self.rounds + (tasks > 0)

    def first(self) -> None:
        self.answered = self.answered or time.perf_counter() - self.started

    def done(self, seconds: float) -> None:
        self.busy += seconds

    def end(self) -> None:
        self.ended = time.perf_counter()
        self.lasted += self.ended - self.begun

    def told(self, cpu: float) -> dict[str, float]:
        wall = time.perf_counter() - self.started
        return {"wall": wall, "rounds": self.rounds, "cpu": cpu / wall, "between": self.between / wall,
                "start": self.answered / wall,
                "waiting": 1 - self.busy / max(1e-9, self.workers * self.lasted)}


def report(sizes: Sequence[int], say: Callable[[str], None]) -> bool:
    """Say what candidates cost beside archives of `sizes`; whether all limits are kept."""
    kept = True
    for name in SETTINGS:
        found = {size: at(size, name) for size in sizes}
        row = ", ".join(f"{entry['milliseconds']:.1f} ms ({entry['cpu']:.1f} of the processor) at {size:,}"
                        for size, entry in found.items())
        read = max(entry["read"] for entry in found.values())
        say(f"{name}: {row} (limit {LIMIT_MS:g} ms a candidate); the largest archive is read in {read:.2f} s "
            f"(limit {LIMIT_READ:g} s)")
        kept &= read < LIMIT_READ and all(entry["milliseconds"] < LIMIT_MS for entry in found.values())
    return kept
