"""What every backbone is made of: a stem, stages that a denoiser may follow, and a head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from parapet.errors import InputError
from parapet.genome import Genome


@dataclass(frozen=True)
class Body:
    """The parts of a backbone, in the order in which they run.

    `stem` maps normalised images (N, C, H, W) to features; each of `stages` maps features (N, C, H, W) to features
    with `channels` of its place; `head` maps the last of them to logits (N, classes).
    """

    stem: nn.Module
    stages: tuple[nn.Module, ...]
    channels: tuple[int, ...]
    head: nn.Module


# From a genome, the shape (C, H, W) of the images and the number of classes.
Backbone = Callable[[Genome, tuple[int, int, int], int], Body]


def check_size(image_shape: tuple[int, int, int], smallest: int, reader: str) -> None:
    """InputError where images (C, H, W) have fewer than `smallest` pixels a side, too few for `reader`."""
    _, height, width = image_shape
    if min(height, width) < smallest:
        raise InputError(f"images of {height}x{width} pixels are too small for {reader}; "
                         f"the smallest allowed size is {smallest}x{smallest}.")
