"""candidates: tells NSGA-II the results of the last generation, and asks it for the next one.

A search folder (`search_folder`) holds the whole state between two generations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.data.info import read_info
from parapet.disk.files import replacing_folder, write_json
from parapet.disk.replacement import refuse_to_replace
from parapet.errors import InputError
from parapet.search import lost
from parapet.search.feasibility import record_of
from parapet.search.front import front, hypervolume_curve
from parapet.search.schedule import trained_from_scratch
from parapet.search.session import Session
from parapet.store import keys, search_folder
from parapet.store import records as store
from parapet.store import results as step_results
from parapet.store.records import Record
from parapet.store.results import ATTACK_EVALUATION, EXPORT, FILES, TRAINING
from parapet.store.search_folder import (
    ARCHIVE,
    FRONT_IDS,
    MARKS,
    OWN,
    PROPOSALS,
    STATE,
    SUMMARY,
    UNDEFENDED,
    SearchFolder,
)
from parapet.tracking import search_runs
from parapet.tracking.tracker import Tracker

SECTIONS = ("seed", "device", "data", "threat", "search", "training", "attack_evaluation", "export")
SCHEMA_VERSION = 1
_STEPS = (TRAINING, ATTACK_EVALUATION, EXPORT)
# The advice in the error message for a damaged result of a step.
_AGAIN = "run the step that left it again"


def run(params: Params, dataset: Path, out: Path, *, device: str = "cpu", previous: Path | None = None,
        results: Sequence[Path] = (), ask: bool = True, tracker: Tracker | None = None,
        tags: Mapping[str, str] | None = None,
        known_runs: Callable[[str], Collection[str]] = lambda search_id: ()) -> dict[str, Any]:
    """Do one turn of the search: tell NSGA-II `results`, ask for the next generation, write the search folder `out`.

    `previous` is the search folder of the previous generation, None for the first turn; `results` are folders with
    training.json, attack_evaluation.json or export.json of its candidates, in any order. With `ask` False the search
    ends here. `tracker` gets a run with `tags` for each candidate of all generations that `known_runs(search id)` does
    not name. Returns {generation, proposals}. Raises InputError for settings that `refuse_rounds` refuses and for
    damaged files, WorkError where too many candidates are lost (`search.lost`).
    """
    info = read_info(dataset)
    refuse_rounds(params)
    refuse_to_replace(out, [dataset, *results, *filter(None, [previous])], [PROPOSALS, *MARKS], OWN)
    search_id = keys.short_id(keys.search_key(params, info["fingerprint"], device))
    with replacing_folder(out) as partial:
        if previous is None:
            session, folders = Session(params, info, device), dict[str, list[Path]]()
        else:
            session, folders = _told(params, info, device, dataset, SearchFolder(previous), results,
                                     partial / "results")
            if not ask:
                session.finish()
        proposals = session.ask(lambda: not ask)
        ids = write_search(partial, search_id, session.records, session.undefended, params, folders)
        write_json(partial / STATE, session.schedule.state())
        write_json(partial / PROPOSALS, [proposal.to_json() for proposal in proposals])
        shutil.rmtree(partial / "results", ignore_errors=True)
        search_folder.seal(partial, search_id, info["fingerprint"])
    if tracker is not None:
        search_runs.begin(tracker, search_id, params, info, tags or {})
        _track(tracker, search_id, session, results, tags or {}, known_runs(search_id))
        if ids:
            tracker.front(search_id, ids)
    return {"generation": session.schedule.generation, "proposals": [proposal.to_json() for proposal in proposals]}


def _told(params: Params, info: dict[str, Any], device: str, dataset: Path, before: SearchFolder,
          results: Sequence[Path], gathered: Path) -> tuple[Session, dict[str, list[Path]]]:
    """Restore the search in `before` and tell it `results`; returns it and the folders of the candidates' files."""
    before.check_data(info["fingerprint"], dataset)
    session = Session(params, info, device, records=before.records(), undefended=before.undefended(),
                      state=before.json(STATE))
    proposals = before.proposals()
    parts = _gather(results, gathered)
    folders = {name: [before.whatever_is_of(name)] for name in before.candidates()}
    folders |= {proposal.id: [gathered / proposal.id] for proposal in proposals}
    lost.refuse_too_many([found for proposal in proposals if (found := _loss(parts, proposal.id))], len(proposals))
    if proposals:
        session.tell(proposals, [record_of(proposal, [parts.get((proposal.id, step)) for step in _STEPS], params)
                                 for proposal in proposals])
    else:
        session.schedule.reopen()  # `before` is the end of an earlier run
    return session, folders


def write_search(out: Path, search_id: str, records: Sequence[Record], undefended: Record | None, params: Params,
                 folders: Mapping[str, Sequence[Path]]) -> list[str]:
    """Write the results of a search into `out`; returns the ids of the front.

    `folders` names, for each candidate that may be on the front, the folders that hold its files.
    """
    write_json(out / UNDEFENDED, undefended and undefended.to_json())
    store.append(out / ARCHIVE, records)
    if not records:
        return []
    members = front(trained_from_scratch(records), params.search.objectives)
    write_json(out / FRONT_IDS, {"schema_version": SCHEMA_VERSION, "search_id": search_id,
                                 "ids": [member.id for member in members]})
    write_json(out / SUMMARY, summarise(records, params))
    for member in [*members, *([undefended] if undefended and undefended.is_feasible else [])]:
        for folder in folders[member.id]:
            for name in FILES:
                _copy(folder / name, out / "candidates" / member.id / name)
    return [member.id for member in members]


def summarise(records: Sequence[Record], params: Params) -> dict[str, Any]:
    """The content of search.json: sizes, training time in seconds, hypervolume after each generation."""
    search = params.search
    return {"schema_version": SCHEMA_VERSION, "seed": params.seed, "population": search.population,
            "generations": 1 + max(record.generation for record in records), "objectives": list(search.objectives),
            "evaluated": len(records), "infeasible": sum(not record.is_feasible for record in records),
            "training_seconds": sum(record.training_seconds or 0.0 for record in records),
            "ideal": list(search.ideal), "reference": list(search.reference),
            "hypervolume": hypervolume_curve(records, search.ideal, search.reference)}


def refuse_rounds(params: Params) -> None:
    """Raise InputError for settings under which a generation is not one round that trains all its candidates."""
    search = params.search
    given = [name for name, wanted in (("rungs", search.rungs), ("warm_start", search.warm_start),
                                       ("budget", search.budget), ("evaluations", search.evaluations > 1),
                                       ("final_seeds", search.final_seeds > 1),
                                       ("maximum_latency_ms", search.maximum_latency_ms)) if wanted]
    if given:
        raise InputError(f"search.{given[0]} is given, and a search that is unrolled into tasks has one round a "
                         "generation, all of whose candidates are trained; leave it out, or search on one machine "
                         "with `parapet run`.")


def _loss(parts: Mapping[tuple[str, str], dict[str, Any]], candidate: str) -> tuple[str, str] | None:
    """(kind, reason) of a lost candidate, as `lost.refuse_too_many` takes it; None where the candidate is not lost."""
    for step in _STEPS:
        part = parts.get((candidate, step), {"lost": "no result", "reason": f"{step} is missing"})
        if part.get("lost"):
            return part["lost"], part["reason"]
        if part["status"] != "done":
            return None
    return None


def _track(tracker: Tracker, search_id: str, session: Session, results: Sequence[Path], tags: Mapping[str, str],
           known: Collection[str]) -> None:
    """Track every record that has no run yet: those of this turn with files from `results`, earlier ones without."""
    places: dict[str, list[Path]] = {}
    for result, folder in _results(results):
        places.setdefault(result["id"], []).append(folder)
    for record in [*filter(None, [session.undefended]), *session.records]:
        if record.id not in known:
            search_runs.candidate(tracker, search_id, record, places.get(record.id, []), session.info, tags,
                              undefended=record is session.undefended)


def _gather(folders: Sequence[Path], into: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The results in `folders` by (id, step); copies all files of a candidate to `into`/<id>."""
    found = {}
    for result, folder in _results(folders):
        found[result["id"], result["step"]] = result
        for name in FILES:
            _copy(folder / name, into / result["id"] / name)
    return found


def _results(folders: Sequence[Path]) -> Iterator[tuple[dict[str, Any], Path]]:
    """Every result of a step in `folders`, with its file name as `step`, and its folder."""
    for folder in folders:
        for step in _STEPS:
            if (folder / step).exists():
                yield {**step_results.read(folder / step, _AGAIN), "step": step}, folder


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
