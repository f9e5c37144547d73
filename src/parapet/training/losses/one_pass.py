"""Clean, adversarial and noisy images in one forward pass, as one batch.

The statistics of batch norm in evaluation are then those it was trained with, and the terms of a loss share the pass.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from parapet.attacks.objectives import precise

Pieces = dict[str, Tensor]


class Logits(NamedTuple):
    """Logits (N, classes) of one forward pass over the same N images in three versions; None where left out.

    At least float32: losses take differences, in which the few digits of bfloat16 would be lost.
    """

    clean: Tensor | None = None
    adversarial: Tensor | None = None
    noisy: Tensor | None = None


def one_pass(model: nn.Module, *, clean: Tensor | None = None, adversarial: Tensor | None = None,
             noisy: Tensor | None = None) -> Logits:
    """The model's logits of the versions (N, C, H, W) that are given, from a single call in this order."""
    given = {name: images for name, images in (("clean", clean), ("adversarial", adversarial), ("noisy", noisy))
             if images is not None}
    batch = list(given.values())
    logits = precise(model(torch.cat(batch) if len(batch) > 1 else batch[0]))
    return Logits(**dict(zip(given, logits.chunk(len(batch)))))


def required(part: Tensor | None) -> Tensor:
    """The logits of a version that a loss needs; TypeError where the pass left that version out."""
    if part is None:
        raise TypeError("the given logits lack a version of the images that the loss needs")
    return part
