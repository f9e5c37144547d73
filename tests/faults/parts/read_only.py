"""Folders that an ordinary user may read and not write: wrong input in one sentence, or all that can be had without."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
from pathlib import Path

from coverage import Coverage

from tests.faults.bench import Bench, Result
from tests.faults.ends import fault_of
from tests.faults.processes import Case, End
from tests.faults.verbs import VERBS, Verb

_NOBODY = 65534
# Of linux/capability.h and linux/prctl.h.
_READ_EVERYTHING, _VERSION_3, _KEEP_CAPABILITIES, _AMBIENT, _RAISE = 2, 0x20080522, 8, 47, 2
_ORDER = ("search", "data_prep", "front", "report", "promote", "full_evaluation", "train", "data fetch", "sync",
          "attack", "pipelines compile", "search, tracked", "archive verify", "rollback", "select", "check",
          "archive list", "promote, second", "archive show", "report, tracked", "promote --to", "archive compare")
_PLACES = {
    "check": ("artifacts",), "data fetch": ("data",), "data_prep": ("artifacts", "artifacts/dataset"),
    "search": ("artifacts", ".parapet", "artifacts/search"),
    "search, tracked": ("artifacts", ".parapet", "mlruns", "mlflow.db"),
    "full_evaluation": ("artifacts", ".parapet", "artifacts/evaluation"),
    "front": ("artifacts", "artifacts/onnx", "artifacts/front.json"),
    "report": ("artifacts", "artifacts/report", "artifacts/plots"),
    "report, tracked": ("artifacts", ".parapet", "mlflow.db", "mlruns"),
    "promote": ("mlflow.db", "mlruns", "artifacts", ".parapet"),
    "promote, second": ("mlflow.db", "mlruns", ".parapet", "mlruns/models"),
    "promote --to": ("mlflow.db", "mlruns"), "rollback": ("mlflow.db",), "sync": ("mlflow.db", "mlruns", ".parapet"),
    "train": ("runs", "runs/digits"), "attack": ("runs", "runs/attack"), "pipelines compile": ("build",),
}


def impossible() -> str | None:
    """Only root can become an ordinary user, who cannot write down what `make coverage` measures."""
    if Coverage.current() is not None:
        return "it becomes another user, who cannot write the files of coverage."
    return None if os.getuid() == 0 else "it becomes another user, which needs root."


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """A verb as an ordinary user who may not write somewhere, and once more where he may."""
    chance = random.Random(f"read only {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    bench.reference(verb)
    bench.project.restore(verb.stage)
    locked = chance.choice((".", *_PLACES.get(verb.name, ())))
    result = Result(verb.name, f"{'the whole project' if locked == '.' else locked} is read-only")
    with bench.case() as case:
        _lock(bench.project.place, locked)
        end = _as_nobody(bench, verb, case)
        if verb.registry and fault_of(end, [0]) is None and bench.waits(end):
            _own(bench.project.place)
            end = _as_nobody(bench, verb, case, ["sync", "--params", "tracked.yaml"])
        bench.judge(verb, end, case, [0, 2], result)
        if result.fault is not None or end.code == 0:
            return result
        how = result.how
        _own(bench.project.place)
        bench.judge(verb, _as_nobody(bench, verb, case), case, [0], result)
        result.how = how
        return result


def _as_nobody(bench: Bench, verb: Verb, case: Case, words: list[str] | None = None) -> End:
    return case.run(words or bench.words(verb), bench.limit(verb), {"HOME": str(case.temporary)},
                    prepare=_become_nobody)


def _become_nobody() -> None:
    """Another user, who may read everything, Python included, wherever it was installed; children inherit that."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    only = 1 << _READ_EVERYTHING
    header, sets = struct.pack("Ii", _VERSION_3, 0), struct.pack("6I", only, only, only, 0, 0, 0)
    if libc.capset(header, sets) or libc.prctl(_AMBIENT, _RAISE, _READ_EVERYTHING, 0, 0):
        raise OSError(ctypes.get_errno(), "the right to read everything could not be kept")


def _lock(project: Path, name: str) -> None:
    """Everything is the ordinary user's, but not what is called `name`, which is made where it is not there."""
    _own(project)
    path = project / name
    if not path.exists():
        if path.suffix:
            path = path.parent  # no such file can be made
        path.mkdir(parents=True, exist_ok=True)
    everything = [path, *path.rglob("*")] if path.is_dir() else [path]
    if name == "mlflow.db":
        everything.append(project)  # SQLite writes its journal beside it
    for each in everything:
        os.chown(each, 0, 0, follow_symlinks=False)
        each.chmod(0o755 if each.is_dir() else 0o644)


def _own(project: Path) -> None:
    for path in (project, *project.rglob("*")):
        shutil.chown(path, _NOBODY, _NOBODY)
        path.chmod(0o755 if path.is_dir() else 0o644)
