"""The small JSON file that each step of a candidate leaves behind, and what it says of work already done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parapet.files import read_json, write_json

SCHEMA_VERSION = 1
TRAINING, ATTACK_EVALUATION, EXPORT = "training.json", "attack_evaluation.json", "export.json"
WEIGHTS, ONNX, CHECKPOINT = "model.safetensors", "model.onnx", "checkpoint.safetensors"
# What a finished candidate consists of.
FILES = (WEIGHTS, TRAINING, ATTACK_EVALUATION, ONNX, EXPORT)
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


def write(path: Path, *, candidate: str, key: str, status: str = "done", reason: str | None = None,
          **values: Any) -> dict[str, Any]:
    """Write and return a result: `status` is "done" or "infeasible", then with its reason."""
    result = {"schema_version": SCHEMA_VERSION, "id": candidate, "key": key, "status": status, "reason": reason,
              **values}
    write_json(path, result)
    return result


def ignore(text: str, share: float) -> None:
    """A report of progress that nobody reads."""
