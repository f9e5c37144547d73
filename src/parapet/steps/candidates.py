"""candidates: NSGA-II asked for the next generation, after being told what became of the last one.

A search folder (`search_folder`) is all that travels between generations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.data.info import read_info
from parapet.errors import InputError, WorkError
from parapet.fidelity import Fidelity
from parapet.files import replacing_folder, write_json
from parapet.genome import Genome
from parapet.replacement import refuse_to_replace
from parapet.search import ceilings, lost
from parapet.search.course import Course, outcome
from parapet.search.estimate import HOPELESS
from parapet.search.evolution import Evolution
from parapet.search.front import front, hypervolume_curve
from parapet.search.network_space import SearchSpace
from parapet.search.space import Space
from parapet.search.surrogate import Surrogate
from parapet.steps import tracked
from parapet.store import archive, keys, search_folder
from parapet.store import results as step_results
from parapet.store.request import Request
from parapet.store.results import ATTACK_EVALUATION, EXPORT, FILES, TRAINING, accuracies, verdict
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
from parapet.tracking.tracker import Tracker

SECTIONS = ("seed", "device", "data", "threat", "search", "training", "attack_evaluation", "export")
SCHEMA_VERSION = 1
# Times HOPELESS: worse than any other shortfall, and not yet hopeless.
_NEARLY = 0.999
# What to do about a damaged result of a candidate's step.
_AGAIN = "run the step that left it again"


def new_course(params: Params, info: dict[str, Any]) -> Course:
    """The search before its first generation; `info` is the prepared data set's dataset.json."""
    search, shape = params.search, info["image_shape"]
    surrogate = None if search.surrogate == "none" else Surrogate(search.surrogate, params.seed)
    evolution = Evolution(SearchSpace(search.space, shape), population=search.population,
                          objectives=len(search.objectives), seed=params.seed,
                          admissible=ceilings.admissible(search, shape, len(info["classes"])), surrogate=surrogate,
                          oversampling=search.oversampling)
    return Course(evolution, search, Fidelity.ladder(search.rungs, params.training.epochs))


def propose(course: Course, requests: Sequence[Request], params: Params, info: dict[str, Any],
            device: str, *, undefended: bool) -> list[dict[str, Any]]:
    """The proposals of a round; with `undefended` it is led by the undefended reference network."""
    proposals = [proposal_of(request, params, info, device, course.generation) for request in requests]
    if undefended:
        # The middle of the family, trained without attacks: what the front has to be compared with.
        plain = Request(_undefended(course.evolution.space, params, info), course.ladder[-1])
        proposals.insert(0, {**proposal_of(plain, params, info, device, 0), "undefended": True})
    return proposals


def _undefended(space: Space[Genome], params: Params, info: dict[str, Any]) -> Genome:
    """The widest network of two blocks a stage that stays below the ceilings, else the narrowest one."""
    allowed = ceilings.admissible(params.search, info["image_shape"], len(info["classes"])) or (lambda genome: True)
    sizes = [Genome(loss="standard", width=width).canonical() for width in sorted(space.choices("width"))]
    return next(filter(allowed, reversed(sizes)), sizes[0])


def record(proposal: dict[str, Any], parts: Iterable[dict[str, Any] | None], params: Params) -> dict[str, Any]:
    """The archive record of a proposal, from the results of training, attack_evaluation and export.

    A part that is missing or infeasible makes the candidate infeasible, and so does a failed audit.
    """
    merged: dict[str, Any] = {}
    reason, violation = None, None
    for part in parts:
        if part is None or part["status"] != "done":
            reason = reason or (part["reason"] if part else "a step left no result")
        else:
            merged |= part
    evaluation, audited = merged.get("evaluation"), merged.get("audit")
    validation = None if evaluation is None else accuracies(evaluation)
    audit = None if audited is None else verdict(audited)
    if reason is None:  # every step is done, attack_evaluation too
        reason, violation = _shortfall(accuracies(merged["evaluation"]), merged["audit"], proposal, params)
    return {"schema_version": archive.SCHEMA_VERSION, "id": proposal["id"], "training_key": proposal["training_key"],
            "evaluation_key": proposal["evaluation_key"], "genome": proposal["genome"],
            "generation": proposal["generation"], "seed": proposal["seed"], "fidelity": proposal["fidelity"],
            "parent": proposal["parent"], "repeat": proposal["repeat"], "looks": proposal["look"],
            "final": proposal["final"], "status": "feasible" if reason is None else "infeasible", "reason": reason,
            "violation": violation, "validation": validation, "audit": audit,
            **{name: merged.get(name) for name in
               ("flops", "params", "training_seconds", "training_flops", "latency_ms")}}


def _shortfall(validation: dict[str, Any], audit: dict[str, Any], proposal: dict[str, Any],
               params: Params) -> tuple[str | None, float]:
    """Why a measured candidate is infeasible, None where it is not, and by how much."""
    floor, epochs = params.search.minimum_clean_accuracy, proposal["fidelity"]["epochs"]
    if proposal.get("undefended"):
        return None, 0.0
    if audit["verdict"] == "fail":
        failed = {check["id"] for check in audit["checks"] if check["verdict"] == "fail"}
        # Of a network that gets nothing right yet no more is known than that it needs more training.
        untrained = not proposal["fidelity"]["full"] and failed == {"clean_accuracy"}
        return ("the audit failed: " + " ".join(verdict(audit)["reasons"]),
                (1 - validation["clean_accuracy"]) * _NEARLY if untrained else HOPELESS)
    if validation["clean_accuracy"] < floor:
        early = "" if proposal["fidelity"]["full"] else f" after {epochs} epochs"
        return (f"clean accuracy {validation['clean_accuracy']:.3f}{early} is below "
                f"search.minimum_clean_accuracy {floor:g}"), floor - validation["clean_accuracy"]
    return None, 0.0


def summarise(records: Sequence[dict[str, Any]], params: Params) -> dict[str, Any]:
    """search.json: sizes, seconds of training, hypervolume after each generation."""
    search = params.search
    return {"schema_version": SCHEMA_VERSION, "seed": params.seed, "population": search.population,
            "generations": 1 + max(record["generation"] for record in records), "objectives": list(search.objectives),
            "evaluated": len(records),
            "infeasible": sum(record["status"] != "feasible" for record in records),
            "training_seconds": sum(record["training_seconds"] or 0.0 for record in records),
            "ideal": list(search.ideal), "reference": list(search.reference),
            "hypervolume": hypervolume_curve(records, search.ideal, search.reference)}


def write_search(out: Path, search_id: str, records: Sequence[dict[str, Any]], undefended: dict[str, Any] | None,
                 params: Params, folders: Mapping[str, Sequence[Path]]) -> list[str]:
    """Write the outcome of a search into `out`; returns the ids of the front.

    `folders` names, for each candidate that may be on the front, the folders that hold its files.
    """
    members = front(outcome(records), params.search.objectives)
    archive.append(out / ARCHIVE, records)
    write_json(out / FRONT_IDS, {"schema_version": SCHEMA_VERSION, "search_id": search_id,
                                  "ids": [member["id"] for member in members]})
    write_json(out / UNDEFENDED, undefended)
    write_json(out / SUMMARY, summarise(records, params))
    for member in [*members, *([undefended] if undefended and undefended["status"] == "feasible" else [])]:
        for folder in folders[member["id"]]:
            for name in FILES:
                _copy(folder / name, out / "candidates" / member["id"] / name)
    return [member["id"] for member in members]


def refuse_empty_front(records: Sequence[dict[str, Any]]) -> None:
    """Raise WorkError where not one candidate is feasible, or can become so with more training, with the reasons."""
    if records and not any(record["status"] == "feasible" or _may_improve(record) for record in records):
        reasons = sorted({record["reason"] for record in records})
        raise WorkError(f"all {len(records)} candidates failed: {'; '.join(reasons[:3])}.")


def _may_improve(record: dict[str, Any]) -> bool:
    return not record["fidelity"]["full"] and record["violation"] is not None and record["violation"] < HOPELESS


def run(params: Params, dataset: Path, out: Path, *, device: str = "cpu", previous: Path | None = None,
        results: Sequence[Path] = (), ask: bool = True, tracker: Tracker | None = None,
        tags: Mapping[str, str] | None = None,
        known_runs: Callable[[str], Collection[str]] = lambda search_id: ()) -> dict[str, Any]:
    """One turn of the search between folders: tell `results`, ask for the next generation, write `out`.

    `previous` is the search folder of the generation before; `results` are folders with training.json,
    attack_evaluation.json or export.json of its candidates, in any order. With `ask` false the search ends here.
    `tracker` is told of the candidates of all generations that `known_runs(search id)` does not name, with `tags`.
    Returns {generation, proposals}.
    """
    info = read_info(dataset)
    refuse_rounds(params)
    refuse_to_replace(out, [dataset, *results, *filter(None, [previous])], [PROPOSALS, *MARKS], OWN)
    course = new_course(params, info)
    records, undefended, folders = [], None, {}
    with replacing_folder(out) as partial:
        if previous is not None:
            before = SearchFolder(previous)
            before.check_data(info["fingerprint"], dataset)
            course.restore(before.json(STATE))
            records, undefended, proposals = before.records(), before.undefended(), before.json(PROPOSALS)
            folders = {path.name: [before.whatever_is_of(path.name)] for path in (previous / "candidates").glob("*")}
            parts = _gather(results, partial / "results")
            fresh = [record(proposal, [parts.get((proposal["id"], name)) for name in
                                       (TRAINING, ATTACK_EVALUATION, EXPORT)], params) for proposal in proposals]
            folders |= {proposal["id"]: [partial / "results" / proposal["id"]] for proposal in proposals}
            for proposal, entry in zip(proposals, fresh):
                if proposal.get("undefended"):
                    undefended = entry
            lost.refuse_too_many([found for proposal in proposals if (found := _loss(parts, proposal["id"]))],
                                 len(proposals))
            told = [entry for proposal, entry in zip(proposals, fresh) if not proposal.get("undefended")]
            known = {entry["id"] for entry in records}
            records += [entry for entry in told if entry["id"] not in known]
            if proposals:
                course.tell(records)
            else:
                course.reopen()  # the end of an earlier run
            if not ask:
                refuse_empty_front(records)
        requests = course.ask(records, lambda: not ask)
        proposals = propose(course, requests, params, info, device, undefended=previous is None)
        search_id = keys.short_id(keys.search_key(params, info["fingerprint"], device))
        ids = []
        if records:
            ids = write_search(partial, search_id, records, undefended, params, folders)
        else:
            write_json(partial / UNDEFENDED, undefended)
            archive.append(partial / ARCHIVE, records)
        write_json(partial / STATE, course.state())
        write_json(partial / PROPOSALS, proposals)
        shutil.rmtree(partial / "results", ignore_errors=True)
        search_folder.seal(partial, search_id, info["fingerprint"])
    if tracker is not None:
        tracked.begin(tracker, search_id, params, info, tags or {})
        _track(tracker, search_id, records, undefended, results, info, tags or {}, known_runs(search_id))
        if ids:
            tracker.front(search_id, ids)
    return {"generation": course.generation, "proposals": proposals}


def _loss(parts: Mapping[tuple[str, str], dict[str, Any]], candidate: str) -> tuple[str, str] | None:
    """What the candidate was lost to, as `lost.refuse_too_many` takes it; None where it was not."""
    for step in (TRAINING, ATTACK_EVALUATION, EXPORT):
        part = parts.get((candidate, step), {"lost": "no result", "reason": f"{step} is missing"})
        if part.get("lost"):
            return part["lost"], part["reason"]
        if part["status"] != "done":
            return None
    return None


def _track(tracker: Tracker, search_id: str, records: Sequence[dict[str, Any]], undefended: dict[str, Any] | None,
           results: Sequence[Path], info: dict[str, Any], tags: Mapping[str, str], known: Collection[str]) -> None:
    """Every record without a run; files of those of this turn lie in `results`, and earlier ones are told without."""
    places: dict[str, list[Path]] = {}
    for folder in results:
        for step in (TRAINING, ATTACK_EVALUATION, EXPORT):
            if (folder / step).exists():
                places.setdefault(step_results.read(folder / step, _AGAIN)["id"], []).append(folder)
    for entry in [*filter(None, [undefended]), *records]:
        if entry["id"] not in known:
            tracked.candidate(tracker, search_id, entry, places.get(entry["id"], []), info, tags,
                              undefended=entry is undefended)


def refuse_rounds(params: Params) -> None:
    """InputError for what makes other rounds than one a generation."""
    search = params.search
    given = [name for name, wanted in (("rungs", search.rungs), ("warm_start", search.warm_start),
                                       ("budget", search.budget), ("looks", search.looks > 1),
                                       ("final_seeds", search.final_seeds > 1),
                                       ("maximum_latency_ms", search.maximum_latency_ms)) if wanted]
    if given:
        raise InputError(f"search.{given[0]} is given, and a search that is unrolled into tasks has one round a "
                         "generation, all of whose candidates are trained; leave it out, or search on one machine "
                         "with `parapet run`.")


def proposal_of(request: Request, params: Params, info: dict[str, Any], device: str,
                generation: int) -> dict[str, Any]:
    """The request with its keys, its seed and the id that it has everywhere: an entry of proposals.json."""
    training = keys.training_key(request, params, info["fingerprint"], device)
    # What is measured after the last generation belongs to it.
    return {"id": keys.short_id(training), "generation": generation - request.final, **request.to_dict(),
            "seed": keys.candidate_seed(params.seed, request.genome, request.repeat),
            "fingerprint": info["fingerprint"], "training_key": training,
            "evaluation_key": keys.evaluation_key(training, params, "attack_evaluation", request.look)}


def _gather(folders: Sequence[Path], into: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The results in `folders` by (id, step), with their files side by side in into/<id>."""
    found = {}
    for folder in folders:
        for step in (TRAINING, ATTACK_EVALUATION, EXPORT):
            path = folder / step
            if path.exists():
                result = step_results.read(path, _AGAIN)
                found[result["id"], step] = result
                for name in FILES:
                    _copy(folder / name, into / result["id"] / name)
    return found


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
