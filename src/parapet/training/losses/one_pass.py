"""Clean, adversarial and noisy images through the network as one batch.

So the statistics of batch norm in evaluation are those it was trained with, and no term of a loss pays for a forward
pass that another has made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from parapet.attacks.objectives import precise

Pieces = dict[str, Tensor]


class Logits(NamedTuple):
    """Logits (N, classes) of one forward pass over the same N images in three versions; None where left out.

    At least float32: the few digits of a bfloat16 would be lost in the differences that losses take.
    """

    clean: Tensor | None = None
    adversarial: Tensor | None = None
    noisy: Tensor | None = None


def one_pass(model: nn.Module, *, clean: Tensor | None = None, adversarial: Tensor | None = None,
             noisy: Tensor | None = None) -> Logits:
    """The model's answers to whichever versions (N, C, H, W) are given, from a single call in this order."""
    given = {name: images for name, images in (("clean", clean), ("adversarial", adversarial), ("noisy", noisy))
             if images is not None}
    batch = list(given.values())
    logits = precise(model(torch.cat(batch) if len(batch) > 1 else batch[0]))
    return Logits(**dict(zip(given, logits.chunk(len(batch)))))


def required(part: Tensor | None) -> Tensor:
    """What a loss cannot do without of a pass that was already made; TypeError where that pass left it out."""
    if part is None:
        raise TypeError("the pass whose logits were given left out a version of the images that the loss needs")
    return part
