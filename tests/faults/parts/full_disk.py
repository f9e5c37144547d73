"""The disk is full at any write, of bytes or of new files; then there is room, and the same verb again.

The project lies on a file system of its own (tmpfs), which is shrunk to what it holds and a few pages or inodes more:
as many as the verb needs at most, or fewer. Mounting needs root.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parapet.disk.files import read_json, write_json
from tests.faults.bench import Bench, Result
from tests.faults.ends import fault_of
from tests.faults.verbs import VERBS, Verb

_ORDER = ("search", "data_prep", "front", "promote", "train", "full_evaluation", "report", "attack", "sync",
          "data fetch", "search, tracked", "pipelines compile", "promote, second", "rollback", "promote --to",
          "report, tracked")
_PAGE, _ROOM = 4096, "size=2g,nr_inodes=1000000"
_LOOK_EVERY = 0.004


def impossible() -> str | None:
    """Who is not root cannot mount."""
    return None if os.getuid() == 0 else "it mounts file systems of limited size, which needs root."


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """A verb that finds the disk full, and once more with room."""
    chance = random.Random(f"full disk {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    bench.reference(verb)
    with _mounted(bench.project.place), bench.case() as case:
        pages, inodes = _growth(bench, verb)
        bench.project.restore(verb.stage)
        temporary = bench.project.place / "tmp"
        temporary.mkdir()
        used = os.statvfs(bench.project.place)
        if chance.random() < 0.7:
            room = chance.randrange(max(1, pages))
            limit = f"size={(used.f_blocks - used.f_bfree + room) * _PAGE}"
            result = Result(verb.name, f"room for {room} pages, and {pages} are needed")
        else:
            room = chance.randrange(max(1, inodes))
            limit = f"nr_inodes={used.f_files - used.f_ffree + room}"
            result = Result(verb.name, f"room for {room} new files, and {inodes} are needed")
        _remount(bench.project.place, limit)
        own = {"TMPDIR": str(temporary)}
        end = case.run(bench.words(verb), bench.limit(verb), own)
        if verb.registry and fault_of(end, [0]) is None and bench.waits(end):
            _remount(bench.project.place, _ROOM)
            end = case.run(["sync", "--params", "tracked.yaml"], bench.limit(verb), own)
        bench.judge(verb, end, case, [0, 1], result)
        if result.fault is not None or end.code == 0:
            return result
        how = result.how
        _remount(bench.project.place, _ROOM)
        bench.judge(verb, case.run(bench.words(verb), bench.limit(verb), own), case, [0], result)
        result.how = how
        return result


def _growth(bench: Bench, verb: Verb) -> tuple[int, int]:
    """(pages, inodes) that an undisturbed run needs at most, beside what was there; measured once."""
    path = bench.work / "references" / f"{verb.name.replace(' ', '-')}.growth.json"
    if path.exists():
        return tuple(read_json(path))
    bench.project.restore(verb.stage)
    (bench.project.place / "tmp").mkdir()
    before = os.statvfs(bench.project.place)
    most = [0, 0]
    with bench.case() as case:
        running = case.start(bench.words(verb), {"TMPDIR": str(bench.project.place / "tmp")})
        while not running.ends_within(_LOOK_EVERY):
            now = os.statvfs(bench.project.place)
            most = [max(most[0], before.f_bfree - now.f_bfree), max(most[1], before.f_ffree - now.f_ffree)]
    write_json(path, json.loads(json.dumps(most)))
    return most[0], most[1]


@contextmanager
def _mounted(place: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", _ROOM, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _remount(place: Path, limit: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{limit}", place], check=True)
