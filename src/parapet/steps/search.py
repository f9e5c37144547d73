"""search: NSGA-II on one machine; candidates are measured in worker processes and kept in a cache.

Everything that a killed search needs lies in the cache folder: each candidate's files under its training key, and
each search's state and journal under its search key. `out` receives copies at the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from parapet import log
from parapet.config import Params
from parapet.data.info import check_files, read_info
from parapet.errors import InputError
from parapet.files import replacing_folder, write_text
from parapet.processes.pool import Outcome, Workers
from parapet.replacement import refuse_to_replace
from parapet.search import course, lost
from parapet.search.front import hypervolume
from parapet.steps import candidates, measure, tracked
from parapet.steps.display import Display
from parapet.steps.journal import Journal, line_of
from parapet.steps.mending import Mender
from parapet.store import keys, search_folder
from parapet.tracking.tracker import Tracker

# What `go_on` leaves of the candidate cache, and where.
_CACHE, _KEPT = "cache", ("searches", "candidates")


def run(params: Params, dataset: Path, out: Path, cache: Path, *, devices: list[str], tracker: Tracker,
        tags: dict[str, str] | None = None, watch: bool = False, end: bool = True) -> dict[str, Any]:
    """Search as `params` say, on the prepared `dataset`, and write the archive, the front and its files to `out`.

    `devices` has an entry a worker. `tags` (for example the git revision) go to every tracked run. With `watch` a live
    table is shown in a terminal. Goes on where an earlier, interrupted search in the same `cache` stopped; InputError
    where one is still running there, and WorkError where too many candidates of a round are lost (`lost`). Without
    `end` the search stops after its generations, trains nothing from scratch and writes nothing to `out`. Returns a few
    metrics.
    """
    info = read_info(dataset)
    check_files(dataset, info)  # a split that is another one would make every candidate fail, or worse, not fail
    check_place(out, [cache, dataset])
    search_id = keys.short_id(keys.search_key(params, info["fingerprint"], devices[0]))
    with only_search(cache), Workers(devices, attempts=params.search.attempts,
                                     timeout=params.search.timeout_seconds) as workers:
        journal = Journal.open(cache / "searches" / search_id, params, info, len(devices))
        tracked.begin(tracker, search_id, params, info, tags or {})

        def track(entry: dict[str, Any], undefended: bool) -> None:
            tracked.candidate(tracker, search_id, entry, measure.folders(cache, entry, params), info, tags or {},
                              undefended=undefended)

        revision = (tags or {}).get("git_revision", "unknown")
        with Display(journal, watch=watch) as display:
            def measure_all(proposals: list[dict[str, Any]]) -> list[Outcome]:
                return [outcome for _, outcome in sorted(
                    workers.run([measure.task(proposal, params, dataset, cache, info, revision)
                                 for proposal in proposals],
                                on_wait=display.tick), key=lambda each: each[0])]

            mender = Mender(params, info, cache, measure_all, display.note)
            if journal.records:
                display.note(f"going on with search {search_id}: {len(journal.records)} candidates are there already")
            while (end or not journal.is_over()) and (proposals := journal.propose(devices[0])):
                for note in journal.notes():
                    display.note(note)
                fresh = _measure(proposals, journal, params, dataset, cache, workers, display, track, revision, mender)
                journal.add(proposals, fresh)
            for note in journal.notes():
                display.note(note)
            if not end:
                return {"search_id": search_id, "evaluated": len(journal.outcome()), "front": len(journal.front()),
                        "hypervolume": journal.hypervolume()}
            records = journal.outcome()
            full = [record for record in records if record["fidelity"]["full"]]
            candidates.refuse_empty_front(course.outcome(records) or full or records)
            # The undefended network is measured before all others.
            records, undefended = mender.members(records, cast(dict[str, Any], journal.undefended()), journal.records)
        folders = {record["id"]: measure.folders(cache, record, params) for record in [*records, undefended]}
        with replacing_folder(out) as partial:
            ids = candidates.write_search(partial, search_id, records, undefended, params, folders)
            search_folder.seal(partial, search_id, info["fingerprint"])
    summary = candidates.summarise(records, params)
    # Of what is handed over; the curve in the summary is also of networks that were trained anew since.
    volume = hypervolume(course.outcome(records), params.search.ideal, params.search.reference)
    tracker.front(search_id, ids)
    tracker.finish(search_id, {"hypervolume": volume, "front_size": len(ids), "evaluated": summary["evaluated"],
                               "infeasible": summary["infeasible"]}, {})
    return {"search_id": search_id, "evaluated": summary["evaluated"], "front": len(ids), "hypervolume": volume}


def check_place(out: Path, kept: Iterable[Path]) -> None:
    """Raise InputError where a search put at `out` would delete any of `kept`, or what is not of a search."""
    refuse_to_replace(out, kept, [*search_folder.MARKS, f"{_CACHE}/{_KEPT[0]}"], search_folder.OWN)


def go_on(params: Params, dataset: Path, out: Path, cache: Path, *, devices: list[str], tracker: Tracker,
          tags: dict[str, str] | None = None, previous: Path | None = None, end: bool = True) -> dict[str, Any]:
    """As `run`, from where the search in folder `previous` ended, which an earlier call left.

    `out` holds the candidate cache too, since whoever goes on may find nothing of this machine but its `out`. Without
    `end` there is no front yet and nothing else in it. Raises InputError where `previous` cannot be gone on from.
    """
    # What a pod that was killed had done already stands in `cache`, and is newer.
    if previous is not None and not (cache / _KEPT[0]).exists():
        if not (previous / _CACHE).is_dir():
            raise InputError(f"{previous} cannot be gone on from: it has no folder {_CACHE}, because it is of a search "
                             "whose generations were tasks; give the archive of one with layout.generations_per_task.")
        shutil.copytree(previous / _CACHE, cache, dirs_exist_ok=True)
    numbers = run(params, dataset, out, cache, devices=devices, tracker=tracker, tags=tags, end=end)
    for name in _KEPT:
        shutil.copytree(cache / name, out / _CACHE / name, dirs_exist_ok=True)
    return numbers


def _measure(proposals: list[dict[str, Any]], journal: Journal, params: Params, dataset: Path,
             cache: Path, workers: Workers, display: Display,
             track: Callable[[dict[str, Any], bool], None], revision: str,
             mender: Mender | None = None) -> list[dict[str, Any]]:
    """The archive records of `proposals`, in their order: from the journal, from the cache, or measured now.

    Raises WorkError where too many of them are lost; nobody is told of these then, so that they are tried again.
    """
    folders = [measure.folder_of(cache, proposal["training_key"]) for proposal in proposals]
    known = journal.known()
    # What another search trained may be above this one's ceiling, and only a worker can time it.
    timed = params.search.maximum_latency_ms is not None
    found = [known.get(line_of(proposal)) or (None if timed else measure.stored(proposal, params, folder, display.note))
             for proposal, folder in zip(proposals, folders)]
    missing = [place for place, entry in enumerate(found) if entry is None]
    display.begin(proposals, missing)
    records: dict[int, dict[str, Any]] = {}

    def keep(index: int, entry: dict[str, Any]) -> None:
        records[index] = entry
        log.event(entry["reason"] or entry["status"], step="search", candidate=entry["id"], status=entry["status"],
                  generation=entry["generation"], validation={
                      name: (entry["validation"] or {}).get(name) for name in ("clean_accuracy", "robust_accuracy")})
        track(entry, bool(proposals[index].get("undefended")))

    for index, entry in enumerate(found):
        if entry is not None:
            keep(index, entry)
    if mender is not None:  # what is not trained at all has nothing to mend
        mender.parents([proposals[index] for index in missing], journal.records)
    tasks = [measure.task(proposals[index], params, dataset, cache, journal.info, revision) for index in missing]
    failed: dict[int, Outcome] = {}
    for place, outcome in workers.run(tasks, lambda place, text, share: display.moved(missing[place], text, share),
                                      display.tick):
        index = missing[place]
        display.moved(index, "", 1.0)
        journal.device_seconds += outcome.seconds
        if outcome.trace:
            write_text(folders[index] / "failure.txt", outcome.trace)
        if outcome.result is None:
            failed[index] = outcome
            if outcome.lost:
                display.note(outcome.reason or "")
        else:
            keep(index, outcome.result)
    lost.refuse_too_many([(outcome.lost, outcome.reason or "") for outcome in failed.values() if outcome.lost],
                         len(proposals))
    for index, outcome in failed.items():
        keep(index, _failed(proposals[index], known, outcome, params))
    return [records[index] for index in range(len(proposals))]


def _failed(proposal: dict[str, Any], known: dict[tuple[Any, ...], dict[str, Any]], outcome: Outcome,
            params: Params) -> dict[str, Any]:
    """The record of a candidate that left none; a look that failed leaves what the looks before it had seen."""
    before = [known.get((proposal["id"], look, final)) for look in range(1, proposal["look"])
              for final in (False, True)]
    if measured := [record for record in before if record is not None]:
        return {**measured[-1], "looks": proposal["look"], "final": proposal["final"],
                "generation": proposal["generation"]}
    return candidates.record(proposal, [{"status": "infeasible", "reason": outcome.reason}], params)


@contextmanager
def only_search(cache: Path, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Refuse a second search in the same cache; wait a moment for one that is just ending. With `wait`, which is told
    so, it is waited for however long it takes. May be nested."""
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
