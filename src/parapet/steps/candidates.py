"""candidates: NSGA-II asked for the next generation, after being told what became of the last one.

A search folder holds state.json, archive.jsonl, proposals.json, front_ids.json, undefended.json and
candidates/<id>/ for the members of the front. It is all that travels between generations.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.data.info import read_info
from parapet.errors import WorkError
from parapet.files import read_json, replacing_folder, write_json
from parapet.genome import Genome, SearchSpace
from parapet.search import archive, keys
from parapet.search.evolution import Evolution
from parapet.search.front import front, hypervolume_curve, objectives
from parapet.steps.results import ATTACK_EVALUATION, EXPORT, FILES, TRAINING, accuracies, verdict

SECTIONS = ("seed", "device", "data", "threat", "search", "training", "attack_evaluation", "export")
STATE, ARCHIVE, PROPOSALS, FRONT_IDS, UNDEFENDED, SUMMARY = (
    "state.json", "archive.jsonl", "proposals.json", "front_ids.json", "undefended.json", "search.json")
SCHEMA_VERSION = 1


def new_evolution(params: Params, info: dict[str, Any]) -> Evolution:
    """The search's NSGA-II before its first generation; `info` is the prepared data set's dataset.json."""
    space = SearchSpace(params.search.space, info["image_shape"])
    return Evolution(space, population=params.search.population, objectives=len(params.search.objectives),
                     seed=params.seed)


def propose(evolution: Evolution, params: Params, info: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """The proposals of this generation; the first one is led by the undefended reference network."""
    genomes = evolution.ask()
    proposals = [_proposal(genome, params, info, device, evolution.generation) for genome in genomes]
    if evolution.generation == 0:
        # The middle of the family, trained without attacks: what the front has to be compared with.
        plain = Genome(loss="standard", width=max(evolution.space.choices("width"))).canonical()
        proposals.insert(0, {**_proposal(plain, params, info, device, 0), "undefended": True})
    return proposals


def record(proposal: dict[str, Any], parts: Iterable[dict[str, Any] | None], params: Params) -> dict[str, Any]:
    """The archive record of a proposal, from the results of training, attack_evaluation and export.

    A part that is missing or infeasible makes the candidate infeasible, and so does a failed audit.
    """
    merged: dict[str, Any] = {}
    reason = None
    for part in parts:
        if part is None or part["status"] != "done":
            reason = reason or (part["reason"] if part else "a step left no result")
        else:
            merged |= part
    evaluation, audit = merged.get("evaluation"), merged.get("audit")
    validation = None if evaluation is None else accuracies(evaluation)
    audit = None if audit is None else verdict(audit)
    if not proposal.get("undefended"):
        if reason is None and audit["verdict"] == "fail":
            reason = "the audit failed: " + " ".join(audit["reasons"])
        if reason is None and validation["clean_accuracy"] < params.search.minimum_clean_accuracy:
            reason = (f"clean accuracy {validation['clean_accuracy']:.3f} is below "
                      f"search.minimum_clean_accuracy {params.search.minimum_clean_accuracy:g}")
    return {"schema_version": archive.SCHEMA_VERSION, "id": proposal["id"], "training_key": proposal["training_key"],
            "evaluation_key": proposal["evaluation_key"], "genome": proposal["genome"],
            "generation": proposal["generation"], "seed": proposal["seed"], "fidelity": proposal["fidelity"],
            "status": "feasible" if reason is None else "infeasible", "reason": reason, "validation": validation,
            "audit": audit,
            **{name: merged.get(name) for name in
               ("flops", "params", "training_seconds", "training_flops", "latency_ms")}}


def tell(evolution: Evolution, records: Sequence[dict[str, Any]], params: Params) -> None:
    """Tell the records of this generation, in the order of its proposals (without the undefended network)."""
    evolution.tell([objectives(record, params.search.objectives) for record in records])


def summarise(records: Sequence[dict[str, Any]], params: Params) -> dict[str, Any]:
    """search.json: sizes, seconds of training, hypervolume after each generation."""
    search = params.search
    return {"schema_version": SCHEMA_VERSION, "seed": params.seed, "population": search.population,
            "generations": search.generations, "objectives": list(search.objectives), "evaluated": len(records),
            "infeasible": sum(record["status"] != "feasible" for record in records),
            "training_seconds": sum(record["training_seconds"] or 0.0 for record in records),
            "ideal": list(search.ideal), "reference": list(search.reference),
            "hypervolume": hypervolume_curve(records, search.ideal, search.reference)}


def write_search(out: Path, search_id: str, records: Sequence[dict[str, Any]], undefended: dict[str, Any] | None,
                 params: Params, folders: dict[str, Sequence[Path]]) -> list[str]:
    """Write the outcome of a search into `out`; returns the ids of the front.

    `folders` names, for each candidate that may be on the front, the folders that hold its files.
    """
    members = front(records, params.search.objectives)
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
    """Raise WorkError where not one candidate is feasible, with the reasons."""
    if records and all(record["status"] != "feasible" for record in records):
        reasons = sorted({record["reason"] for record in records})
        raise WorkError(f"all {len(records)} candidates failed: {'; '.join(reasons[:3])}.")


def run(params: Params, dataset: Path, out: Path, *, device: str = "cpu", previous: Path | None = None,
        results: Sequence[Path] = (), ask: bool = True) -> dict[str, Any]:
    """One turn of the search between folders: tell `results`, ask for the next generation, write `out`.

    `previous` is the search folder of the generation before; `results` are folders with training.json,
    attack_evaluation.json or export.json of its candidates, in any order. With `ask` false the search ends here.
    Returns {generation, proposals}.
    """
    info = read_info(dataset)
    evolution = new_evolution(params, info)
    records, undefended, folders = [], None, {}
    with replacing_folder(out) as partial:
        if previous is not None:
            evolution.restore(read_json(previous / STATE))
            records = archive.read(previous / ARCHIVE)
            undefended = read_json(previous / UNDEFENDED)
            folders = {path.name: [path] for path in (previous / "candidates").glob("*")}
            proposals = read_json(previous / PROPOSALS)
            parts = _gather(results, partial / "results")
            fresh = [record(proposal, [parts.get((proposal["id"], name)) for name in
                                       (TRAINING, ATTACK_EVALUATION, EXPORT)], params) for proposal in proposals]
            folders |= {proposal["id"]: [partial / "results" / proposal["id"]] for proposal in proposals}
            for proposal, entry in zip(proposals, fresh):
                if proposal.get("undefended"):
                    undefended = entry
            told = [entry for proposal, entry in zip(proposals, fresh) if not proposal.get("undefended")]
            tell(evolution, told, params)
            known = {entry["id"] for entry in records}
            records += [entry for entry in told if entry["id"] not in known]
            refuse_empty_front(records)
        proposals = propose(evolution, params, info, device) if ask else []
        search_id = keys.short_id(keys.search_key(params, info["fingerprint"], device))
        write_search(partial, search_id, records, undefended, params, folders)
        write_json(partial / STATE, evolution.state())
        write_json(partial / PROPOSALS, proposals)
        shutil.rmtree(partial / "results", ignore_errors=True)
    return {"generation": evolution.generation, "proposals": proposals}


def _proposal(genome: Genome, params: Params, info: dict[str, Any], device: str, generation: int) -> dict[str, Any]:
    training = keys.training_key(genome, params, info["fingerprint"], device)
    return {"id": keys.short_id(training), "generation": generation, "genome": genome.to_dict(),
            "seed": keys.candidate_seed(params.seed, genome), "fidelity": keys.fidelity(params),
            "fingerprint": info["fingerprint"],
            "training_key": training, "evaluation_key": keys.evaluation_key(training, params, "attack_evaluation")}


def _gather(folders: Sequence[Path], into: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The results in `folders` by (id, step), with their files side by side in into/<id>."""
    found = {}
    for folder in folders:
        for step in (TRAINING, ATTACK_EVALUATION, EXPORT):
            path = folder / step
            if path.exists():
                result = read_json(path)
                found[result["id"], step] = result
                for name in FILES:
                    _copy(folder / name, into / result["id"] / name)
    return found


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
