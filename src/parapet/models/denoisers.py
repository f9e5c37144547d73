"""Feature denoisers: a smoothing operation, a 1x1 convolution and a residual connection (Xie et al. 2019).

Xie, Wu, van der Maaten, Yuille, He: "Feature Denoising for Improving Adversarial Robustness", section 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from parapet.models.backbones.blocks import NormalisedConvolution, convolution
from parapet.models.defence import Defence
from parapet.models.median import median3x3


class Denoiser(Defence):
    """features + conv1x1(smooth(features)); the convolution starts at zero, so the layer starts as the identity."""

    attacked_through = "gradients"

    def __init__(self, channels: int) -> None:
        super().__init__()
        mix = convolution(channels, channels, size=1)
        mix.starts_at_zero = True
        self.mix: nn.Module = mix

    def smooth(self, features: Tensor) -> Tensor:
        """The denoising operation, (N, C, H, W) to the same shape."""
        raise TypeError(f"{type(self).__name__} has no smoothing operation; use a subclass")

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        mixed: Tensor = self.mix(self.smooth(features))
        return features + mixed


class MeanDenoiser(Denoiser):
    """Mean over a 3x3 neighbourhood (section 4.1, "mean filter")."""

    def smooth(self, features: Tensor) -> Tensor:
        """Box filter with replicated edges."""
        return avg_pool2d(pad(features, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


class MedianDenoiser(Denoiser):
    """Median over a 3x3 neighbourhood (section 4.1, "median filter")."""

    def smooth(self, features: Tensor) -> Tensor:
        """Median filter with replicated edges."""
        return median3x3(features)


class GaussianNonLocalDenoiser(Denoiser):
    """Non-local means with softmax weights over embedded features (section 4.1, "Gaussian (softmax)")."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.query = convolution(channels, channels, size=1)
        self.key = convolution(channels, channels, size=1)

    def smooth(self, features: Tensor) -> Tensor:
        """Each position becomes the mean of all positions, weighted by softmax(q.k / sqrt(C))."""
        query = self.query(features).flatten(2).transpose(1, 2)
        key = self.key(features).flatten(2)
        weights = torch.softmax(query @ key / math.sqrt(features.shape[1]), dim=-1)
        return (weights @ features.flatten(2).transpose(1, 2)).transpose(1, 2).reshape_as(features)


class DotProductNonLocalDenoiser(Denoiser):
    """Non-local means with dot products as weights, over the number of positions (section 4.1, "dot product").

    The result is cubic in the features, so that a batch norm follows the convolution, as in the paper's code; here the
    scale of the batch norm starts at zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        mix = NormalisedConvolution(channels, channels, size=1)
        nn.init.zeros_(mix.norm.weight)
        self.mix = mix

    def smooth(self, features: Tensor) -> Tensor:
        """Each position x becomes the mean over all positions y of (x.y) y."""
        flat = features.flatten(2)
        channels, positions = flat.shape[1:]
        # The product is associative: the order with the smaller intermediate matrix is cheaper.
        if channels < positions:
            smoothed = (flat @ flat.transpose(1, 2)) @ flat
        else:
            smoothed = flat @ (flat.transpose(1, 2) @ flat)
        return (smoothed / positions).reshape_as(features)
