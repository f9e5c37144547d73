"""The small JSON file that each step of a candidate leaves behind, and what it says of work already done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parapet.errors import InputError
from parapet.files import file_digest, read_json, write_json
from parapet.search.older_blocks import converted_evaluation

SCHEMA_VERSION = 5
# The version of evaluation/<id>.json that is read too.
_CONVERTED = 4
# What a search leaves.
ARCHIVE, FRONT_IDS, UNDEFENDED, SUMMARY = "archive.jsonl", "front_ids.json", "undefended.json", "search.json"
TRAINING, ATTACK_EVALUATION, EXPORT = "training.json", "attack_evaluation.json", "export.json"
WEIGHTS, ONNX, CHECKPOINT = "model.safetensors", "model.onnx", "checkpoint.safetensors"
# Of the search's attacks: `adversarial`, the images that they left, and their `labels`.
ADVERSARIAL = "adversarial.safetensors"
# What a finished candidate consists of.
FILES = (WEIGHTS, TRAINING, ATTACK_EVALUATION, ADVERSARIAL, ONNX, EXPORT)
# What a tracker keeps of it, by the folder it gets in the run.
ARTIFACTS = {"weights": WEIGHTS, "onnx": ONNX, "validation": ATTACK_EVALUATION}
Report = Callable[[str, float], None]


def done(path: Path, key: str) -> dict[str, Any] | None:
    """The result at `path` if the same work, by its key, has been done; else None."""
    try:
        result = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    return result if result.get("key") == key and result.get("schema_version") == SCHEMA_VERSION else None


def read_evaluation(path: Path) -> dict[str, Any]:
    """evaluation/<id>.json at `path`, one of schema version 4 in today's form."""
    result = read_json(path)
    return converted_evaluation(result) if result.get("schema_version") == _CONVERTED else result


def write(path: Path, *, candidate: str, key: str, status: str = "done", reason: str | None = None,
          **values: Any) -> dict[str, Any]:
    """Write and return a result: `status` is "done" or "infeasible", then with its reason."""
    result = {"schema_version": SCHEMA_VERSION, "id": candidate, "key": key, "status": status, "reason": reason,
              **values}
    write_json(path, result)
    return result


def check_data(fingerprint: str, expected: str, dataset: Path) -> None:
    """Raise InputError where the prepared data are not those that a candidate was proposed for.

    Another split would put images that the candidate was trained on among those that it is judged by.
    """
    if fingerprint != expected:
        raise InputError(f"{dataset} holds other data (fingerprint {fingerprint[:12]}) than this search began with "
                         f"({expected[:12]}); prepare the old data again, or start a new search.")


def accuracies(record: dict[str, Any]) -> dict[str, Any]:
    """The block `validation` or `test` of an archive record and of front.json, from a suite's record."""
    kept = ("n", "clean_accuracy", "clean_interval", "robust_accuracy", "robust_interval")
    return {**{name: record[name] for name in kept},
            "attacks": {name: {"alone": attack["alone"], "left": attack["left"]}
                        for name, attack in record["attacks"].items()}}


def verdict(audit: dict[str, Any]) -> dict[str, Any]:
    """The block `audit`: the verdict, and one line for each check that did not pass."""
    return {"verdict": audit["verdict"], "reasons": [f"{check['id']}: {check['advice']}" for check in audit["checks"]
                                                     if check["verdict"] != "pass"]}


def parity(onnx: dict[str, Any]) -> dict[str, Any]:
    """The block `onnx_parity` of front.json, from the block `onnx` of evaluation/<id>.json."""
    return {"verdict": onnx["parity"], **{name: onnx[name] for name in ("label_agreement", "robust_difference",
                                                                        "reason")}}


def tested(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What front.json takes from evaluation/<id>.json: `test`, `audit`, `onnx_parity`, and the files it was about."""
    return {"test": accuracies(evaluation["evaluation"]), "audit": verdict(evaluation["audit"]),
            "onnx_parity": parity(evaluation["onnx"]), "sha256": evaluation["files"]}


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of a candidate's `weights` and `onnx`."""
    return {"weights": file_digest(folder / WEIGHTS), "onnx": file_digest(folder / ONNX)}


def ignore(text: str, share: float) -> None:
    """A report of progress that nobody reads."""
