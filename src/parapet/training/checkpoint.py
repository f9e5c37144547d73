"""A training run's whole state in one safetensors file: weights, momentum, averages, generator, curves.

On the CPU a run that is interrupted anywhere and resumed ends with the same weights, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parapet.disk import sealed_tensors
from parapet.disk.sealed import Damaged
from parapet.training.adaptation import DefenceParameters
from parapet.training.learner import Learner, Snapshot

_GROUPS = ("weights", "momentum", "average", "head", "steps")


@dataclass
class Progress:
    """The progress of a run.

    epoch: finished epochs. best_epoch: by robust validation accuracy. seconds, flops: spent so far. defence: of the
    next epoch. good: the learner after the last epoch that did not mislead single steps, for a rollback.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_robust_accuracy: float = -1.0
    curves: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    flops: int = 0
    defence: DefenceParameters = field(default_factory=DefenceParameters)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    good: Snapshot = field(default_factory=dict)


def save(path: Path, key: str, learner: Learner, generator: torch.Generator, progress: Progress) -> None:
    """Write the state atomically. `key` identifies the run, so that no other run resumes from it."""
    now = learner.snapshot()
    tensors = {f"now.{group}.{name}": value for group in _GROUPS for name, value in now[group].items()}
    tensors |= {f"good.{group}.{name}": value for group, part in progress.good.items() for name, value in part.items()}
    tensors |= {f"best.{name}": value for name, value in progress.best_weights.items()}
    tensors["generator"] = generator.get_state()
    numbers = {"key": key, "epoch": progress.epoch, "best_epoch": progress.best_epoch,
               "best_robust_accuracy": progress.best_robust_accuracy, "curves": progress.curves,
               "seconds": progress.seconds, "flops": progress.flops,
               "defence": progress.defence.to_dict()}
    sealed_tensors.save(tensors, path, numbers)


def restore(path: Path, key: str, learner: Learner, generator: torch.Generator) -> Progress | None:
    """Load the state into learner and generator; None where the checkpoint is missing, damaged or of another run."""
    try:
        tensors, numbers = sealed_tensors.load(path)
    except (FileNotFoundError, Damaged):
        return None
    if numbers.pop("key") != key:
        return None
    learner.restore({group: _part(tensors, f"now.{group}.") for group in _GROUPS})
    generator.set_state(tensors["generator"])
    numbers["defence"] = DefenceParameters(**numbers["defence"])
    good = {group: _part(tensors, f"good.{group}.") for group in _GROUPS}
    return Progress(**numbers, best_weights=_part(tensors, "best."), good=good if good["weights"] else {})


def peek(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The fields of `Progress` that are numbers, and the best epoch's weights, from the checkpoint of any run.

    Both are empty where the checkpoint is missing or damaged.
    """
    try:
        tensors, numbers = sealed_tensors.load(path)
    except (FileNotFoundError, Damaged):
        return {}, {}
    return numbers, _part(tensors, "best.")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
