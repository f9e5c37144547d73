"""The request to several processes that train one candidate together, on this machine or on a cluster.

This module does not import torch, because a task that only creates a TrainJob does not need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.config import Params, to_dict
from parapet.processes import launcher

_FUNCTION = "parapet.steps.training:take_part"


def request(params: Params, proposal: dict[str, Any], dataset: Path, out: Path, *, device: str, start: Path | None,
            checkpoints: Path | None, locks: Path | None = None) -> dict[str, Any]:
    """The request of `parapet.processes.launcher` by which every process calls `training.take_part`."""
    return launcher.request(_FUNCTION, {
        "params": to_dict(params), "proposal": proposal, "dataset": str(dataset), "out": str(out),
        "start": start and str(start), "checkpoints": checkpoints and str(checkpoints),
        "locks": locks and str(locks)}, device=device)
