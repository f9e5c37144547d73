"""Input filters: feature squeezing and learned smoothing of the image, before normalisation.

Xu, Evans, Qi 2018, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from parapet.models.backbones.blocks import SelfInitialised
from parapet.models.defence import Defence
from parapet.models.median import median3x3


class BitDepth(Defence):
    """Rounds pixels to 2**bits grey levels.

    In the backward pass rounding is replaced by the identity (BPDA, Athalye et al. 2018), so that every gradient attack
    on the network is adaptive, even one that does not know the filter.
    """

    attacked_through = "bpda"

    def __init__(self, bits: int = 3) -> None:
        super().__init__()
        self.levels: int = 2**bits - 1

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape."""
        squeezed = torch.round(images * self.levels) / self.levels
        return images + (squeezed - images).detach() if images.requires_grad else squeezed


def bit_depth(channels: int) -> BitDepth:
    """The filter named bit_depth: eight grey levels, the same for any number of channels."""
    return BitDepth()


class MedianFilter(Defence):
    """3x3 median of each channel ("local spatial smoothing", section III-B of the paper)."""

    attacked_through = "gradients"

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape."""
        return median3x3(images)


def median_filter(channels: int) -> MedianFilter:
    """The filter named median, the same for any number of channels."""
    return MedianFilter()


class LearnedSmoothing(Defence, SelfInitialised):
    """A 3x3 kernel shared by all channels, non-negative and of sum 1 by softmax; starts peaked at its centre."""

    attacked_through = "gradients"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.kernel_logits = nn.Parameter(torch.zeros(9))

    def initialise(self, generator: torch.Generator) -> None:
        """Give the centre pixel weight 1/2 and its neighbours the rest."""
        with torch.no_grad():
            self.kernel_logits.zero_()
            self.kernel_logits[4] = 2.0794  # log 8: the centre weighs as much as the eight neighbours together

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape, still in [0, 1]."""
        kernel = torch.softmax(self.kernel_logits, 0).reshape(1, 1, 3, 3).expand(self.channels, 1, 3, 3)
        return conv2d(pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=self.channels)

