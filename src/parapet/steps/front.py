"""front: everything known of the front's members, in one file that other programs read: front.json."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.config import Params, to_dict
from parapet.data.info import read_info
from parapet.errors import InputError, WorkError
from parapet.files import file_digest, read_json, replacing_folder, write_json
from parapet.genome import Genome
from parapet.report.dvc_plots import metrics
from parapet.search import archive
from parapet.search.front import ties
from parapet.search.seeds import spread
from parapet.steps import results
from parapet.steps.front_file import SCHEMA_VERSION

SECTIONS = ("seed", "data", "threat", "search", "front")


def run(params: Params, dataset: Path, search: Path, evaluation: Path, out: Path, *,
        runs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write front.json, metrics.json and onnx/ into folder `out`, which holds `search` and `evaluation` too.

    `runs` is {tracking_uri, experiment_id, parent_run_id, candidates: {id: run id}}, None while MLflow is away.
    A member whose audit failed on the test split is left out, unless `front.keep_failed_audits`. Returns the
    metrics.
    """
    info = read_info(dataset)
    everything = archive.latest(archive.read(search / results.ARCHIVE))
    records = {record["id"]: record for record in everything}
    undefended = read_json(search / results.UNDEFENDED)
    if undefended["status"] != "feasible":
        raise WorkError(f"the undefended network that the front is compared with failed ({undefended['reason']}); "
                        "run the search again.")
    ids = read_json(search / results.FRONT_IDS)["ids"]
    members = [{**_member(records[name], search, evaluation, out, runs), "seeds": spread(records[name], everything),
                "ties": ties(records[name], [records[other] for other in ids])} for name in ids]
    kept = [member for member in members if member["audit"]["verdict"] != "fail" or params.front.keep_failed_audits]
    variants = [variant for member in kept if (variant := _variant(member, evaluation, out)) is not None]
    if not kept:
        reasons = members[0]["audit"]["reasons"]
        raise WorkError(f"the audit failed every one of the {len(members)} members of the front, the first for: "
                        f"{' '.join(reasons)} Set front.keep_failed_audits to look at them all the same.")
    with replacing_folder(out / "onnx") as folder:
        for member in [*kept, *variants]:
            source = (evaluation / f"{member['id']}.onnx" if member["derived_from"]
                      else search / "candidates" / member["id"] / results.ONNX)
            shutil.copyfile(source, folder / f"{member['id']}.onnx")
            _check_copy(folder / f"{member['id']}.onnx", source, member)
    summary = read_json(search / results.SUMMARY)
    summary.pop("schema_version")
    front = {
        "schema_version": SCHEMA_VERSION, "threat": to_dict(params.threat),
        "data": {name: info[name] for name in ("name", "fingerprint", "classes", "image_shape", "images")},
        "search": summary,
        "mlflow": runs and {name: runs[name] for name in ("tracking_uri", "experiment_id", "parent_run_id")},
        "undefended": _member(undefended, search, evaluation, out, runs, undefended=True),
        "candidates": kept, "variants": variants}
    schemas.validate("front", front)
    write_json(out / "front.json", front)
    numbers = metrics(front)
    write_json(out / "metrics.json", numbers)
    return numbers


def _member(record: dict[str, Any], search: Path, evaluation: Path, out: Path, runs: dict[str, Any] | None,
            undefended: bool = False) -> dict[str, Any]:
    name = record["id"]
    result = results.read_evaluation(evaluation / f"{name}.json")
    weights = search / "candidates" / name / results.WEIGHTS
    onnx = search / "candidates" / name / results.ONNX if undefended else out / "onnx" / f"{name}.onnx"
    return {
        "id": name, "genome": record["genome"], "description": str(Genome.from_dict(record["genome"])),
        "generation": record["generation"], "seed": record["seed"], "validation": record["validation"],
        **results.tested(result),
        **{field: record[field] for field in
           ("flops", "params", "training_seconds", "training_flops", "latency_ms")},
        "weights": weights.relative_to(out).as_posix(), "onnx": onnx.relative_to(out).as_posix(),
        "evaluation": (evaluation / f"{name}.json").relative_to(out).as_posix(),
        "mlflow_run_id": runs and runs["candidates"].get(name), "derived_from": None, "seeds": None, "ties": [],
        "footprint": read_json(search / "candidates" / name / results.EXPORT)["footprint"], "note": None}


def _variant(member: dict[str, Any], evaluation: Path, out: Path) -> dict[str, Any] | None:
    """The INT8 variant of a member, as an entry beside it; None where there is none."""
    found = results.read_evaluation(evaluation / f"{member['id']}.json").get("int8")
    if found is None:
        return None
    return {**member, "id": found["id"], "description": f"{member['description']}, INT8",
            "validation": found["validation"], "test": found["test"], "latency_ms": found["latency_ms"],
            # No gradient leads through a quantised graph, so that the audit's checks cannot be made.
            "audit": {"verdict": "warn", "reasons": [found["note"]]},
            "onnx": (out / "onnx" / f"{found['id']}.onnx").relative_to(out).as_posix(), "footprint": found["footprint"],
            "sha256": {"weights": None, "onnx": found["sha256"]},
            "derived_from": member["id"], "seeds": None, "ties": [], "note": found["note"], "onnx_parity": None}


def _check_copy(copied: Path, source: Path, member: dict[str, Any]) -> None:
    if file_digest(copied) != member["sha256"]["onnx"]:
        raise InputError(f"{source} is not the graph that was evaluated for {member['id']}; run `parapet "
                         "full_evaluation` again.")
