"""The parts of every backbone: a stem, stages, after one of which a denoiser may follow, and a head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from parapet.errors import InputError


@dataclass(frozen=True)
class Body:
    """The parts of a backbone, in the order in which they run.

    `stem` maps normalised images (N, C, H, W) to features; each of `stages` maps features (N, C, H, W) to features,
    whose number of channels has the same position in `channels`; `head` maps the last ones to logits (N, classes).
    """

    stem: nn.Module
    stages: tuple[nn.Module, ...]
    channels: tuple[int, ...]
    head: nn.Module



def check_size(image_shape: tuple[int, int, int], smallest: int, reader: str) -> None:
    """Raise InputError where images (C, H, W) have fewer than `smallest` pixels per side, too few for `reader`."""
    _, height, width = image_shape
    if min(height, width) < smallest:
        raise InputError(f"images of {height}x{width} pixels are too small for {reader}; "
                         f"the smallest allowed size is {smallest}x{smallest}.")
