"""outcome: reports how a run on a cluster ended, from the files that its steps left in their shared folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.disk.files import read_json, write_json

SECTIONS = ()
_FRONT, _PROMOTION = "outcome-front.json", "outcome-promotion.json"


def note_front(workspace: Path, numbers: dict[str, Any]) -> None:
    """Store `numbers`, the content of metrics.json, for `run`."""
    write_json(workspace / _FRONT, numbers)


def note_promotion(workspace: Path, told: str) -> None:
    """Store the message of the promotion, whether promoted or refused, for `run`."""
    write_json(workspace / _PROMOTION, {"told": told})


def run(workspace: Path, *, state: str, task: str, error: str) -> str:
    """The outcome in Markdown; `state` is a Kubeflow state (SUCCEEDED, FAILED, ...) of `task`, `error` its message."""
    lines = [f"# {'Done' if state == 'SUCCEEDED' else state.capitalize()}", ""]
    if state != "SUCCEEDED":
        lines += [f"{task}: {' '.join(error.split()) or 'no reason was given; read its log'}", ""]
    front, promotion = (_left(workspace / name) for name in (_FRONT, _PROMOTION))
    if front is None:
        lines.append("There is no front: the run ended before it was assembled.")
    else:
        lines.append(f"{front['front_size']} of {front['evaluated']} candidates are on the front; the most robust "
                     f"keeps {front['best_robust_accuracy']:.1%} on test, a network trained without attacks "
                     f"{front['undefended_robust_accuracy']:.1%}; hypervolume {front['hypervolume']:.4f}.")
    if promotion is not None:
        lines += ["", promotion["told"]]
    return "\n".join(lines) + "\n"


def _left(path: Path) -> dict[str, Any] | None:
    try:
        left: dict[str, Any] = read_json(path)
        return left
    except (OSError, ValueError):
        return None
