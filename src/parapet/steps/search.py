"""search: NSGA-II on one machine; candidates are measured in worker processes and kept in a cache.

Everything that a killed search needs lies in the cache folder: each candidate's files under its training key, and
each search's state and journal under its search key. `out` receives copies at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from parapet.config import Params, to_dict
from parapet.data.info import read_info
from parapet.errors import InputError
from parapet.files import read_json, refuse_to_replace, replacing_folder, write_text
from parapet.search import course, keys
from parapet.search.front import hypervolume
from parapet.search.workers import Outcome, Task, Workers
from parapet.steps import candidates, measure, tracked
from parapet.steps.display import Display
from parapet.steps.journal import Journal, line_of
from parapet.tracking.tracker import Tracker

_MEASURE = "parapet.steps.measure:run"


def run(params: Params, dataset: Path, out: Path, cache: Path, *, devices: list[str], tracker: Tracker,
        tags: dict[str, str] | None = None, watch: bool = False) -> dict[str, Any]:
    """Search as `params` say, on the prepared `dataset`, and write the archive, the front and its files to `out`.

    `devices` has an entry a worker. `tags` (for example the git revision) go to every tracked run. With `watch` a live
    table is shown in a terminal. Goes on where an earlier, interrupted search in the same `cache` stopped; InputError
    where one is still running there. Returns a few metrics.
    """
    info = read_info(dataset)
    refuse_to_replace(out, [cache, dataset], [candidates.FRONT_IDS])
    search_id = keys.short_id(keys.search_key(params, info["fingerprint"], devices[0]))
    with only_search(cache), Workers(devices, attempts=params.search.attempts,
                                     timeout=params.search.timeout_seconds) as workers:
        journal = Journal.open(cache / "searches" / search_id, params, info, len(devices))
        tracked.begin(tracker, search_id, params, info, tags or {})

        def track(entry: dict[str, Any], undefended: bool) -> None:
            tracked.candidate(tracker, search_id, entry, measure.folders(cache, entry, params), info, tags or {},
                              undefended=undefended)

        with Display(journal, watch=watch) as display:
            if journal.records:
                display.note(f"going on with search {search_id}: {len(journal.records)} candidates are there already")
            while proposals := journal.propose(devices[0]):
                for note in journal.notes():
                    display.note(note)
                fresh = _measure(proposals, journal, params, dataset, cache, workers, display, track)
                journal.add(proposals, fresh)
            for note in journal.notes():
                display.note(note)
        records, undefended = journal.outcome(), read_json(journal.home / candidates.UNDEFENDED)
        full = [record for record in records if record["fidelity"]["full"]]
        candidates.refuse_empty_front(course.outcome(records) or full or records)
        folders = {record["id"]: measure.folders(cache, record, params) for record in [*records, undefended]}
        with replacing_folder(out) as partial:
            ids = candidates.write_search(partial, search_id, records, undefended, params, folders)
    summary = candidates.summarise(records, params)
    # Of what is handed over; the curve in the summary is also of networks that were trained anew since.
    volume = hypervolume(course.outcome(records), params.search.ideal, params.search.reference)
    tracker.front(search_id, ids)
    tracker.finish(search_id, {"hypervolume": volume, "front_size": len(ids), "evaluated": summary["evaluated"],
                               "infeasible": summary["infeasible"]}, {})
    return {"search_id": search_id, "evaluated": summary["evaluated"], "front": len(ids), "hypervolume": volume}


def _measure(proposals: list[dict[str, Any]], journal: Journal, params: Params, dataset: Path,
             cache: Path, workers: Workers, display: Display,
             track: Callable[[dict[str, Any], bool], None]) -> list[dict[str, Any]]:
    """The archive records of `proposals`, in their order: from the journal, from the cache, or measured now."""
    folders = [measure.folder_of(cache, proposal["training_key"]) for proposal in proposals]
    known = journal.known()
    # What another search trained may be above this one's ceiling, and only a worker can time it.
    timed = params.search.maximum_latency_ms is not None
    found = [known.get(line_of(proposal)) or (None if timed else measure.stored(proposal, params, folder))
             for proposal, folder in zip(proposals, folders)]
    missing = [place for place, entry in enumerate(found) if entry is None]
    display.begin(proposals, missing)

    def keep(index: int, entry: dict[str, Any]) -> None:
        found[index] = entry
        track(entry, bool(proposals[index].get("undefended")))

    for index in set(range(len(proposals))) - set(missing):
        keep(index, found[index])
    tasks = [Task(proposals[index]["id"], _MEASURE, {
        "proposal": proposals[index], "params": to_dict(params), "dataset": str(dataset), "cache": str(cache)})
        for index in missing]
    for place, outcome in workers.run(tasks, lambda place, text, share: display.moved(missing[place], text, share),
                                      display.tick):
        index = missing[place]
        display.moved(index, "", 1.0)
        journal.device_seconds += outcome.seconds
        keep(index, outcome.result or _crashed(proposals[index], known, outcome, params, folders[index]))
    return found


def _crashed(proposal: dict[str, Any], known: dict[tuple[Any, ...], dict[str, Any]], outcome: Outcome, params: Params,
             folder: Path) -> dict[str, Any]:
    """The record of a candidate that left none; a look that failed leaves what the looks before it had seen."""
    if outcome.trace:
        write_text(folder / "failure.txt", outcome.trace)
    before = [known.get((proposal["id"], look, final)) for look in range(1, proposal["look"])
              for final in (False, True)]
    if measured := [record for record in before if record is not None]:
        return {**measured[-1], "looks": proposal["look"], "final": proposal["final"],
                "generation": proposal["generation"]}
    return candidates.record(proposal, [{"status": "infeasible", "reason": outcome.reason}], params)


@contextmanager
def only_search(cache: Path) -> Iterator[None]:
    """Refuse a second search in the same cache; wait a moment for one that is just ending. May be nested."""
    cache.mkdir(parents=True, exist_ok=True)
    owner = cache / "search.pid"
    lock = FileLock(cache / "search.lock", is_singleton=True)
    try:
        lock.acquire(timeout=5)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "unknown"
        raise InputError(f"a search is already running in {cache} (process {who}); wait for it, stop it, or give "
                         "another folder with --cache.") from None
    try:
        owner.write_text(f"{os.getpid()}\n")
        yield
    finally:
        lock.release()
        if not lock.is_locked:
            owner.unlink(missing_ok=True)
