"""front: writes front.json, which has everything known about the members of the front, for other programs to read."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.config import Params, to_dict
from parapet.data.info import read_info
from parapet.disk import sealed
from parapet.disk.files import file_digest, read_json, replacing_folder, write_json
from parapet.disk.replacement import ID, refuse_foreign
from parapet.errors import InputError, WorkError
from parapet.report.dvc_plots import metrics
from parapet.search.front import ties
from parapet.store import results
from parapet.store.front_file import EVALUATE, SCHEMA_VERSION
from parapet.store.records import Record, latest
from parapet.store.search_folder import SearchFolder

SECTIONS = ("seed", "data", "threat", "search", "front")


def run(params: Params, dataset: Path, search: Path, evaluation: Path, out: Path, *,
        runs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write front.json, metrics.json and onnx/ into folder `out`, which holds `search` and `evaluation` too.

    `runs` is {tracking_uri, experiment_id, parent_run_id, candidates: {id: run id}}, None where MLflow is unreachable.
    A member whose audit failed on the test split is left out, unless `front.keep_failed_audits` is set. Returns the
    content of metrics.json. Raises WorkError where the undefended network failed or no member is left, InputError where
    an input is missing, damaged or of another configuration.
    """
    info = read_info(dataset)
    found = SearchFolder(search)
    found.check_data(info["fingerprint"], dataset)
    everything, undefended, ids = latest(found.records()), found.undefended(), found.ids()
    records = {record.id: record for record in everything}
    if undefended is None or not undefended.is_feasible:
        reason = undefended.reason if undefended else "it was not measured"
        raise WorkError(f"the undefended network that the front is compared with failed ({reason}); run the search "
                        "again.")
    for name in found.all_ids():
        found.candidate(name)
    evaluations = _evaluations(found, sealed.SealedFolder(evaluation, EVALUATE), params)
    members = [_member(records[name], evaluations[name], search, evaluation, out, runs) for name in ids]
    members = [{**member, "seeds": seed_spread(records[member["id"]], everything), "ties": ties(member, members)}
               for member in members]
    kept = [member for member in members if member["audit"]["verdict"] != "fail" or params.front.keep_failed_audits]
    variants = [variant for member in kept
                if (variant := _variant(member, evaluations[member["id"]], out)) is not None]
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
    summary = found.summary()
    summary.pop("schema_version")
    front = {
        "schema_version": SCHEMA_VERSION, "threat": to_dict(params.threat),
        "data": {name: info[name] for name in ("name", "fingerprint", "classes", "image_shape", "images")},
        "search": {"id": found.search_id, "sha256": found.checksum, **summary},
        "mlflow": runs and {name: runs[name] for name in ("tracking_uri", "experiment_id", "parent_run_id")},
        "undefended": _member(undefended, evaluations[undefended.id], search, evaluation, out, runs,
                              undefended=True),
        "candidates": kept, "variants": variants}
    schemas.validate("front", sealed.write(out / "front.json", front))
    numbers = metrics(front)
    write_json(out / "metrics.json", numbers)
    return numbers


def check_place(out: Path) -> None:
    """Raise InputError where writing front.json, metrics.json and onnx/ to `out` would replace foreign files."""
    for name, mark in (("front.json", b"schema_version"), ("metrics.json", b"front_size")):
        _refuse_foreign_file(out / name, mark, searched=(out / "search" / sealed.DIGESTS).exists())
    refuse_foreign(out / "onnx", (f"{ID}.onnx", f"{ID}-int8.onnx"), "move that file away")


def _refuse_foreign_file(path: Path, mark: bytes, *, searched: bool) -> None:
    """Raise InputError where `path` is a folder, or a foreign file (one without `mark`, which `run` did not write).

    If a search lies beside it (`searched`), a file without `mark` is taken for a damaged one and may be replaced.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, and a file is to be written there; move that folder away.")
    if path.is_file() and path.stat().st_size and not searched and mark not in path.read_bytes():
        raise InputError(f"{path} is not from this command, and would be replaced; give another folder with --out, or "
                         "move that file away.")


def _evaluations(search: SearchFolder, folder: sealed.SealedFolder, params: Params) -> dict[str, dict[str, Any]]:
    """The evaluations of the front's members and of the undefended network, by id.

    Raises InputError where one is damaged, or was made for other files than those in `search`, or for another threat
    model.
    """
    found = {}
    for name in search.all_ids():
        path = folder.path(f"{name}.json")
        result = results.read(path, EVALUATE)
        if (problem := schemas.problem("evaluation", result)) is not None:
            raise InputError(f"{path} is damaged ({problem}); {EVALUATE}.")
        if result["id"] != name or result["files"] != search.digests(name):
            raise InputError(f"{path} is about other weights, or another graph, than those of candidate {name}; "
                             f"{EVALUATE}.")
        if result["evaluation"]["threat"] != to_dict(params.threat):
            raise InputError(f"{path} was measured under {result['evaluation']['threat']}, and params.yaml says "
                             f"{params.threat}; {EVALUATE}.")
        found[name] = result
    return found


def _member(record: Record, result: dict[str, Any], search: Path, evaluation: Path, out: Path,
            runs: dict[str, Any] | None, undefended: bool = False) -> dict[str, Any]:
    name, line = record.id, record.to_json()
    weights = search / "candidates" / name / results.WEIGHTS
    onnx = search / "candidates" / name / results.ONNX if undefended else out / "onnx" / f"{name}.onnx"
    return {
        "id": name, "genome": line["genome"], "description": str(record.genome),
        "generation": record.generation, "seed": record.seed, "validation": line["validation"],
        **results.tested(result),
        **{field: line[field] for field in
           ("flops", "params", "training_seconds", "training_flops", "latency_ms")},
        "weights": weights.relative_to(out).as_posix(), "onnx": onnx.relative_to(out).as_posix(),
        "evaluation": (evaluation / f"{name}.json").relative_to(out).as_posix(),
        "mlflow_run_id": runs and runs["candidates"].get(name), "derived_from": None, "seeds": None, "ties": [],
        "footprint": read_json(search / "candidates" / name / results.EXPORT)["footprint"], "note": None}


def _variant(member: dict[str, Any], result: dict[str, Any], out: Path) -> dict[str, Any] | None:
    """The entry of a member's INT8 variant; None where the member has none."""
    found = result.get("int8")
    if found is None:
        return None
    return {**member, "id": found["id"], "description": f"{member['description']}, INT8",
            "validation": found["validation"], "test": found["test"], "latency_ms": found["latency_ms"],
            # The checks of the audit need gradients, which a quantised graph does not have.
            "audit": {"verdict": "warn", "reasons": [found["note"]]},
            "onnx": (out / "onnx" / f"{found['id']}.onnx").relative_to(out).as_posix(), "footprint": found["footprint"],
            "sha256": {"weights": None, "onnx": found["sha256"], "evaluation": member["sha256"]["evaluation"]},
            "derived_from": member["id"], "seeds": None, "ties": [], "note": found["note"], "onnx_parity": None}


def _check_copy(copied: Path, source: Path, member: dict[str, Any]) -> None:
    if file_digest(copied) != member["sha256"]["onnx"]:
        raise InputError(f"{source} is not the graph that was evaluated for {member['id']}; run `parapet "
                         "full_evaluation` again.")


def seed_spread(record: Record, records: Sequence[Record]) -> dict[str, Any] | None:
    """The validation accuracies over the training seeds of `record`; `records` are those of `records.latest`.

    Returns {n, clean_accuracy, robust_accuracy}: the number of seeds, and for each accuracy {mean, std} with the sample
    standard deviation; None where there is only one seed.
    """
    same = [other for other in records if other.fidelity.full and other.parent is None
            and other.point == record.point and other.validation is not None]
    if len(same) < 2:
        return None
    columns = {name: [getattr(other.validation, name) for other in same]
               for name in ("clean_accuracy", "robust_accuracy")}
    return {"n": len(same), **{name: {"mean": statistics.fmean(values), "std": statistics.stdev(values)}
                               for name, values in columns.items()}}
