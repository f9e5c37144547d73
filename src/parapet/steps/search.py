"""search: NSGA-II on one machine; candidates are measured in worker processes and kept in a cache.

The cache folder has everything that a killed search needs to resume: each candidate's files under its training key, and
each search's state and journal under its search key. At the end the results are copied to `out`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from parapet.config import Params
from parapet.data.info import check_files, read_info
from parapet.disk.files import replacing_folder
from parapet.disk.replacement import refuse_to_replace
from parapet.errors import InputError
from parapet.processes.pool import Workers
from parapet.search.display import Display
from parapet.search.front import hypervolume
from parapet.search.journal import Journal
from parapet.search.schedule import trained_from_scratch
from parapet.steps import candidates, measure
from parapet.steps.bench import Bench
from parapet.store import keys, search_folder
from parapet.store.records import Record
from parapet.tracking import search_runs
from parapet.tracking.tracker import Tracker

# The folder in `out` to which `go_on` copies the candidate cache, and the parts of the cache that it copies.
_CACHE, _KEPT = "cache", ("searches", "candidates")


def run(params: Params, dataset: Path, out: Path, cache: Path, *, devices: list[str], tracker: Tracker,
        tags: dict[str, str] | None = None, watch: bool = False, end: bool = True) -> dict[str, Any]:
    """Search as `params` say, on the prepared `dataset`, and write the archive, the front and its files to `out`.

    `devices` has one entry per worker. `tags` (for example the git revision) are set on every tracked run. With `watch`
    a live table is shown in a terminal. An interrupted search in the same `cache` is resumed. With `end` False the
    search stops after its generations, trains nothing from scratch and writes nothing to `out`. Returns {search_id,
    evaluated, front, hypervolume}. Raises InputError where another search is running in `cache`, and WorkError where
    too many candidates of a round are lost (`search.lost`).
    """
    info = read_info(dataset)
    check_files(dataset, info)  # with changed files every candidate would fail or, worse, get wrong numbers
    check_place(out, [cache, dataset])
    search_id = keys.short_id(keys.search_key(params, info["fingerprint"], devices[0]))
    with only_search(cache), Workers(devices, attempts=params.search.attempts,
                                     timeout=params.search.timeout_seconds) as workers:
        journal = Journal.open(cache / "searches" / search_id, params, info, devices[0], len(devices))
        session = journal.session
        search_runs.begin(tracker, search_id, params, info, tags or {})
        with Display(journal, watch=watch) as display:
            bench = Bench(journal, dataset, cache, workers, display, tracker, search_id, tags or {})
            if session.records:
                display.note(f"going on with search {search_id}: {len(session.records)} candidates are there already")
            while (end or not journal.is_over()) and (proposals := journal.ask()):
                for note in journal.notes():
                    display.note(note)
                journal.tell(proposals, bench.measure(proposals))
            for note in journal.notes():
                display.note(note)
            if not end:
                return {"search_id": search_id, "evaluated": len(session.candidates()),
                        "front": len(session.front()), "hypervolume": session.hypervolume()}
            # The undefended network is measured before all others.
            records, undefended = bench.mender.members(session.finish(), cast(Record, session.undefended),
                                                       session.records)
        folders = {record.id: measure.folders(cache, record.training_key, params) for record in [*records, undefended]}
        with replacing_folder(out) as partial:
            ids = candidates.write_search(partial, search_id, records, undefended, params, folders)
            search_folder.seal(partial, search_id, info["fingerprint"])
    summary = candidates.summarise(records, params)
    # Of the networks that are delivered; the curve in the summary includes those that were trained again since.
    volume = hypervolume(trained_from_scratch(records), params.search.ideal, params.search.reference)
    tracker.front(search_id, ids)
    tracker.finish(search_id, {"hypervolume": volume, "front_size": len(ids), "evaluated": summary["evaluated"],
                               "infeasible": summary["infeasible"]}, {})
    return {"search_id": search_id, "evaluated": summary["evaluated"], "front": len(ids), "hypervolume": volume}


def check_place(out: Path, kept: Iterable[Path]) -> None:
    """Raise InputError where writing a search to `out` would delete any of `kept`, or files that no search wrote."""
    refuse_to_replace(out, kept, [*search_folder.MARKS, f"{_CACHE}/{_KEPT[0]}"], search_folder.OWN)


def go_on(params: Params, dataset: Path, out: Path, cache: Path, *, devices: list[str], tracker: Tracker,
          tags: dict[str, str] | None = None, previous: Path | None = None, end: bool = True) -> dict[str, Any]:
    """As `run`, but resumes the search in folder `previous`, the `out` of an earlier call.

    The candidate cache is copied to `out` too, because the next call may run on a machine that has only `out`. With
    `end` False `out` has only this cache and no front. Raises InputError where `previous` has no candidate cache.
    """
    # A `cache` that is not empty is of a killed pod of the same task, and is newer than `previous`.
    if previous is not None and not (cache / _KEPT[0]).exists():
        if not (previous / _CACHE).is_dir():
            raise InputError(f"{previous} cannot be gone on from: it has no folder {_CACHE}, because it is of a search "
                             "whose generations were tasks; give the archive of one with layout.generations_per_task.")
        shutil.copytree(previous / _CACHE, cache, dirs_exist_ok=True)
    numbers = run(params, dataset, out, cache, devices=devices, tracker=tracker, tags=tags, end=end)
    for name in _KEPT:
        shutil.copytree(cache / name, out / _CACHE / name, dirs_exist_ok=True)
    return numbers


@contextmanager
def only_search(cache: Path, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock that allows one search at a time in a cache. May be nested.

    Raises InputError where another search does not release it within 5 seconds; with `wait`, calls `wait` with a
    message instead, and then waits without limit.
    """
    cache.mkdir(parents=True, exist_ok=True)
    owner = cache / "search.pid"
    lock = FileLock(cache / "search.lock", is_singleton=True)
    try:
        lock.acquire(timeout=5)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "unknown"
        if wait is None:
            raise InputError(f"a search is already running in {cache} (process {who}); wait for it, stop it, or give "
                             "another folder with --cache.") from None
        wait(f"another search is running in {cache} (process {who}); waiting for its end")
        lock.acquire(timeout=-1)
    try:
        owner.write_text(f"{os.getpid()}\n")
        yield
    finally:
        lock.release()
        if not lock.is_locked:
            owner.unlink(missing_ok=True)
