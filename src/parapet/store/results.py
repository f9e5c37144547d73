"""The result file (JSON) that each step of a candidate writes, and the check whether a step is already done.

It contains its own checksum and the SHA-256 of the step's other files. A step whose files are damaged counts as not
done, and runs again.
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

# Version 5 added `checksum` and `digests`; a step with a result of an older version, which has neither, runs again.
SCHEMA_VERSION = 5
# The older version that is also read: of evaluation/<id>.json, and of files in the registry, which has its own digests.
_WITHOUT_DIGESTS = 4
TRAINING, ATTACK_EVALUATION, EXPORT = "training.json", "attack_evaluation.json", "export.json"
WEIGHTS, ONNX, CHECKPOINT = "model.safetensors", "model.onnx", "checkpoint.safetensors"
# Two tensors from the search's attacks: the attacked images `adversarial` and their `labels`.
ADVERSARIAL = "adversarial.safetensors"
# The files of a finished candidate.
FILES = (WEIGHTS, TRAINING, ATTACK_EVALUATION, ADVERSARIAL, ONNX, EXPORT)
# The files that a tracker stores, by their folder in the run.
ARTIFACTS = {"weights": WEIGHTS, "onnx": ONNX, "validation": ATTACK_EVALUATION}
Report = Callable[[str, float], None]
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str, "key": str, "status": str, "reason": (str, type(None)), "digests": dict}


def done(path: Path, key: str, tell: Callable[[str], None] = lambda text: None) -> dict[str, Any] | None:
    """The result at `path` if it has the same `key` and its files are undamaged; else None.

    `tell` is called with a sentence about what is damaged.
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
    """Write and return a result; `status` is "done", or "infeasible" with a `reason`.

    `beside` names the files in the same folder that belong to it, which must exist.
    """
    return sealed.write(path, {"schema_version": SCHEMA_VERSION, "id": candidate, "key": key, "status": status,
                               "reason": reason, "digests": sealed.digests(path.parent, beside), **values})


def read(path: Path, again: str) -> dict[str, Any]:
    """The result at `path`, checked as in `done` but with any key. Raises InputError, which ends with the advice
    `again`, where it is missing or damaged."""
    result = sealed.read(path, again, _FIELDS, version=SCHEMA_VERSION)
    if (problem := sealed.problem(path.parent, result["digests"])) is not None:
        raise InputError(f"{path.parent}: {problem}; {again}.")
    return result


def read_evaluation(path: Path, again: str) -> dict[str, Any]:
    """The evaluation/<id>.json at `path`; schema version 4 is converted. Raises InputError, as `read`.

    Version 4 has no digests; its accuracies must agree with its recorded outcomes.
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
    """The result of the step `training` in `folder`, whose weights are undamaged. Raises InputError where they are not.

    A `registered` folder was already compared with the registry's digests, and may be of an older version.
    """
    path = folder / TRAINING
    if registered and is_old(path):
        old: dict[str, Any] = read_json(path)
        return old
    return read(path, "run the step training again, or `parapet search`, which measures again what is damaged")


def check_data(fingerprint: str, expected: str, dataset: Path) -> None:
    """Raise InputError where the prepared data are not those that a candidate was proposed for.

    With another split, training images of the candidate could be among its evaluation images.
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
    """The block `audit` of an archive record: the verdict, and one line for each check that did not pass."""
    return {"verdict": audit["verdict"], "reasons": [f"{check['id']}: {check['advice']}" for check in audit["checks"]
                                                     if check["verdict"] != "pass"]}


def parity(onnx: dict[str, Any]) -> dict[str, Any]:
    """The block `onnx_parity` of front.json, from the block `onnx` of evaluation/<id>.json."""
    return {"verdict": onnx["parity"], **{name: onnx[name] for name in ("label_agreement", "robust_difference",
                                                                        "reason")}}


def tested(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The fields of front.json that come from evaluation/<id>.json: `test`, `audit`, `onnx_parity`, and `sha256` of the
    evaluated files and of the evaluation itself."""
    return {"test": accuracies(evaluation["evaluation"]), "audit": verdict(evaluation["audit"]),
            "onnx_parity": parity(evaluation["onnx"]),
            "sha256": {**evaluation["files"], **({"evaluation": evaluation[sealed.CHECKSUM]}
                                                 if sealed.CHECKSUM in evaluation else {})}}


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of a candidate's `weights` and `onnx`."""
    return {"weights": file_digest(folder / WEIGHTS), "onnx": file_digest(folder / ONNX)}


def is_old(path: Path) -> bool:
    """Whether the result at `path` is from an older version, without digests."""
    try:
        found = read_json(path)
        return found["schema_version"] == _WITHOUT_DIGESTS and sealed.CHECKSUM not in found
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def ignore(text: str, share: float) -> None:
    """A progress callback that does nothing."""
