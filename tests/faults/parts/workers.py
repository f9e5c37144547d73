"""Workers that stop, crash or run out of memory, while the search or the evaluation that they belong to goes on."""

from __future__ import annotations

import json
import random
import resource
import signal
import time

import psutil

from tests.faults.bench import Bench, Result
from tests.faults.ends import fault_of
from tests.faults.processes import Case, Running
from tests.faults.verbs import VERBS, Verb

_ORDER = ("search", "full_evaluation", "search, tracked", "run")
_KINDS = ("stopped for a moment", "stopped for good", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGKILL", "out of memory")
_MODULE, _TIMEOUT = "parapet.processes.worker", 25
# A worker that has not imported its libraries yet fails for another reason than one that is at work.
_STARTED_BYTES = 250 << 20


def impossible() -> str | None:
    """Signals and limits are everywhere."""
    return None


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """One worker disturbed: the verb ends as ever, with the candidate told as infeasible, or in a sentence."""
    chance = random.Random(f"workers {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    reference, kind = bench.reference(verb), _KINDS[place // len(_ORDER) % len(_KINDS)]
    bench.project.restore(verb.stage)
    if kind == "stopped for good":
        _limit_time(bench)
    moment = chance.uniform(0.0, 0.8) * reference.seconds
    result = Result(verb.name, f"a worker {kind}, after {moment:.1f} s of work")
    with bench.case() as case:
        running = case.start(bench.words(verb))
        worker = _worker(running, moment, chance)
        if worker is None:
            result.note("which it was too late for")
        else:
            result.kills += _disturb(worker, kind)
        end = running.end(bench.limit(verb) + 3 * _TIMEOUT)
        if kind not in ("stopped for good", "out of memory"):
            return bench.judge(verb, end, case, [0], result)
        return _lost(bench, verb, case, end, result)


def _lost(bench: Bench, verb: Verb, case: Case, end, result: Result) -> Result:  # noqa: ANN001
    """A candidate may be lost where its time or its memory was too little, and then its record says so."""
    result.ends.append(end)
    result.fault = fault_of(end, [0, 1])
    if result.fault is None and (left := case.left_behind()):
        result.fault = f"leaves behind: {'; '.join(left)}"
    if result.fault is not None:
        return result
    if end.code == 1:
        result.how = "sentence (1)"
        bench.project.write_settings()
        second = Result(verb.name)
        bench.judge(verb, case.run(bench.words(verb), bench.limit(verb)), case, [0], second)
        # A candidate without memory is infeasible for good, and a search that goes on keeps what it knows.
        result.ends += second.ends
        if second.fault and not _reasons(bench):
            result.fault = second.fault
        return result
    if bench.disturbed(verb, end) is None:
        result.how = "undisturbed"
    elif (reasons := _reasons(bench)) and all(any(words in reason for words in (
            "took longer than", "memory", "bad_alloc", "alloc")) for reason in reasons):
        result.how = "sentence in the archive"
    else:
        result.fault = bench.disturbed(verb, end) + f"; the archive says: {reasons}"
    return result


def _worker(running: Running, moment: float, chance: random.Random) -> psutil.Process | None:
    """One of the workers, once there is one that has begun, and `moment` seconds later."""
    until = time.monotonic() + 120
    while time.monotonic() < until and not running.ends_within(0.05):
        if _at_work(running):
            running.ends_within(moment)
            living = _at_work(running)
            return chance.choice(living) if living else None
    return None


def _at_work(running: Running) -> list[psutil.Process]:
    found = []
    for process in running.children():
        try:
            if _MODULE in process.cmdline() and process.memory_info().rss > _STARTED_BYTES:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _disturb(worker: psutil.Process, kind: str) -> bool:
    try:
        if kind.startswith("stopped"):
            worker.suspend()
            if kind == "stopped for a moment":
                time.sleep(3)
                worker.resume()
        elif kind == "out of memory":
            size = worker.memory_info().vms
            worker.rlimit(resource.RLIMIT_AS, (size, size))
        else:
            worker.send_signal(getattr(signal, kind))
    except psutil.NoSuchProcess:
        return False
    return True


def _limit_time(bench: Bench) -> None:
    for name in ("params.yaml", "tracked.yaml"):
        path = bench.project.place / name
        values = json.loads(path.read_text())
        values["search"]["timeout_seconds"] = _TIMEOUT
        path.write_text(json.dumps(values, indent=1))


def _reasons(bench: Bench) -> list[str]:
    """Why candidates are infeasible, by the archive and the record of the undefended network."""
    folder, found = bench.project.place / "artifacts/search", []
    for path in (folder / "archive.jsonl", folder / "undefended.json"):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" and path.exists() else ():
            found.append(json.loads(line)["record"].get("reason"))
        if path.suffix == ".json" and path.exists():
            found.append(json.loads(path.read_text()).get("reason"))
    return [reason for reason in found if reason]
