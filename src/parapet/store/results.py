"""The small JSON file that each step of a candidate leaves behind, and what it says of work already done.

It has its own checksum and the SHA-256 of the files beside it, so that damage is found: work whose files are damaged
is not done, and is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from parapet.disk import sealed
from parapet.disk.files import file_digest, read_json
from parapet.errors import InputError
from parapet.store.consistency import problems
from parapet.store.older_blocks import converted_evaluation

# 5 brought `checksum` and `digests`; what an older version left has neither, and is done again.
SCHEMA_VERSION = 5
# The version of evaluation/<id>.json that is read too, and of what stands in the registry, which has its own digests.
_WITHOUT_DIGESTS = 4
TRAINING, ATTACK_EVALUATION, EXPORT = "training.json", "attack_evaluation.json", "export.json"
WEIGHTS, ONNX, CHECKPOINT = "model.safetensors", "model.onnx", "checkpoint.safetensors"
# Of the search's attacks: `adversarial`, the images that they left, and their `labels`.
ADVERSARIAL = "adversarial.safetensors"
# What a finished candidate consists of.
FILES = (WEIGHTS, TRAINING, ATTACK_EVALUATION, ADVERSARIAL, ONNX, EXPORT)
# What a tracker keeps of it, by the folder it gets in the run.
ARTIFACTS = {"weights": WEIGHTS, "onnx": ONNX, "validation": ATTACK_EVALUATION}
Report = Callable[[str, float], None]
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str, "key": str, "status": str, "reason": (str, type(None)), "digests": dict}


def done(path: Path, key: str, tell: Callable[[str], None] = lambda text: None) -> dict[str, Any] | None:
    """The result at `path` if the same work, by its key, has been done, and its files are what was written; else None.

    `tell` is told what is damaged, in a sentence.
    """
    try:
        result = sealed.look(path)
        if result.get("key") != key or result.get("schema_version") != SCHEMA_VERSION:
            return None
        sealed.check_fields(result, _FIELDS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except sealed.Damaged as error:
        if not is_old(path):
            tell(f"{path} is damaged ({error}); what it was about is measured again")
        return None
    if (problem := sealed.problem(path.parent, result["digests"])) is not None:
        tell(f"{path.parent}: {problem}; it is measured again")
        return None
    return result


def write(path: Path, *, candidate: str, key: str, status: str = "done", reason: str | None = None,
          beside: Iterable[str] = (), **values: Any) -> dict[str, Any]:
    """Write and return a result: `status` is "done" or "infeasible", then with its reason.

    `beside` names the files in the same folder that belong to it; they have been written.
    """
    return sealed.write(path, {"schema_version": SCHEMA_VERSION, "id": candidate, "key": key, "status": status,
                               "reason": reason, "digests": sealed.digests(path.parent, beside), **values})


def read(path: Path, again: str) -> dict[str, Any]:
    """The result at `path`, which `done` would take whatever its key. Raises InputError, which ends with `again`."""
    result = sealed.read(path, again, _FIELDS, version=SCHEMA_VERSION)
    if (problem := sealed.problem(path.parent, result["digests"])) is not None:
        raise InputError(f"{path.parent}: {problem}; {again}.")
    return result


def read_evaluation(path: Path, again: str) -> dict[str, Any]:
    """evaluation/<id>.json at `path`, one of schema version 4 in today's form. Raises InputError, as `read`.

    Version 4 had no digests: its numbers have to follow from the outcomes that it recorded.
    """
    if not is_old(path):
        return read(path, again)
    try:
        result = converted_evaluation(read_json(path))
        odd = next(problems(result["evaluation"]), None)
    except (KeyError, TypeError, AttributeError, ValueError):
        odd = "its form is another"
    if odd is not None:
        raise InputError(f"{path} is damaged ({odd}); {again}.")
    return result


def trained(folder: Path, *, registered: bool = False) -> dict[str, Any]:
    """What `training` left in `folder`, its weights those that it wrote. Raises InputError.

    A folder that was `registered` has been compared with the registry's digests, and may be of an older version.
    """
    path = folder / TRAINING
    if registered and is_old(path):
        old: dict[str, Any] = read_json(path)
        return old
    return read(path, "run the step training again, or `parapet search`, which measures again what is damaged")


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
    """What front.json takes from evaluation/<id>.json: `test`, `audit`, `onnx_parity`; `sha256` of the files that it
    was about and of its own content."""
    return {"test": accuracies(evaluation["evaluation"]), "audit": verdict(evaluation["audit"]),
            "onnx_parity": parity(evaluation["onnx"]),
            "sha256": {**evaluation["files"], **({"evaluation": evaluation[sealed.CHECKSUM]}
                                                 if sealed.CHECKSUM in evaluation else {})}}


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of a candidate's `weights` and `onnx`."""
    return {"weights": file_digest(folder / WEIGHTS), "onnx": file_digest(folder / ONNX)}


def is_old(path: Path) -> bool:
    """Whether an older version, without digests, wrote the result at `path`."""
    try:
        found = read_json(path)
        return found["schema_version"] == _WITHOUT_DIGESTS and sealed.CHECKSUM not in found
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def ignore(text: str, share: float) -> None:
    """A report of progress that nobody reads."""
