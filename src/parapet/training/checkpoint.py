"""A training run's whole state in one safetensors file: weights, momentum, best weights, generator, curves.

A run that is stopped anywhere and started again ends, on the CPU, in the same weights bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from parapet.files import replacing


@dataclass
class Progress:
    """How far a run is: finished epochs, the best epoch by robust validation accuracy, curves, seconds spent."""

    epoch: int = 0
    best_epoch: int = 0
    best_robust_accuracy: float = -1.0
    curves: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def save(path: Path, key: str, network: nn.Module, optimiser: torch.optim.SGD, generator: torch.Generator,
         progress: Progress) -> None:
    """Write the state, atomically. `key` names the run, so that another run's checkpoint is never taken up."""
    tensors = {f"weights.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in progress.best_weights.items()}
    for place, parameter in enumerate(network.parameters()):
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{place}"] = momentum
    tensors["generator"] = generator.get_state()
    numbers = {"key": key, "epoch": progress.epoch, "best_epoch": progress.best_epoch,
               "best_robust_accuracy": progress.best_robust_accuracy, "curves": progress.curves,
               "seconds": progress.seconds}
    with replacing(path) as partial:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial,
                  metadata={"parapet_training": json.dumps(numbers)})


def restore(path: Path, key: str, network: nn.Module, optimiser: torch.optim.SGD,
            generator: torch.Generator) -> Progress:
    """Put the state back and return the progress; a missing, torn or foreign checkpoint starts anew."""
    try:
        with safe_open(path, framework="pt") as stream:
            numbers = json.loads((stream.metadata() or {})["parapet_training"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError):
        return Progress()
    if numbers.pop("key") != key:
        return Progress()
    network.load_state_dict(_part(tensors, "weights."))
    for place, parameter in enumerate(network.parameters()):
        if f"momentum.{place}" in tensors:
            optimiser.state[parameter]["momentum_buffer"] = _like(tensors[f"momentum.{place}"], parameter)
    generator.set_state(tensors["generator"])
    return Progress(**numbers, best_weights=_part(tensors, "best."))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """On the parameter's device and in its memory layout, so that the arithmetic after a resume is the same."""
    return torch.empty_like(parameter).copy_(value)
