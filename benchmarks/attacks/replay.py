"""The bare cost of an attack: the same passes through the network on the same batch shapes, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from parapet.attacks.inputs import frozen

Result = TypeVar("Result")


@dataclass
class Pass:
    """One call of the model: how many images, and how many backward passes followed it."""

    images: int
    with_gradient: bool
    backward: int = 0


class Recorder(nn.Module):
    """A model that writes down each of its passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes: list[Pass] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits = self.model(images)
        record = Pass(len(images), logits.requires_grad)
        self.passes.append(record)
        if logits.requires_grad:
            def count(gradient: Tensor) -> None:
                record.backward += 1
            logits.register_hook(count)
        return logits


def replay(model: nn.Module, images: Tensor, passes: Sequence[Pass]) -> None:
    """Do the recorded passes again on `images` (N, C, H, W), which repeat themselves in larger batches."""
    largest = max((record.images for record in passes), default=0)
    images = images.repeat(-(-largest // len(images)), 1, 1, 1)
    with frozen(model):
        for record in passes:
            points = images[:record.images]
            if not record.with_gradient:
                with torch.no_grad():
                    model(points)
                continue
            points = points.detach().requires_grad_()
            logits = model(points)
            for turn in range(record.backward):
                torch.autograd.grad(logits.sum(), points, retain_graph=turn + 1 < record.backward)


def timed(work: Callable[..., Result], *arguments: object, device: torch.device) -> tuple[float, Result]:
    """(wall-clock seconds, result) of `work(*arguments)`, with the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    result = work(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result
