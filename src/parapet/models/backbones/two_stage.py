"""Bodies of two stages for small images: plain, residual and depthwise-separable blocks."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.backbones.blocks import (
    NormalisedConvolution,
    PlainBlock,
    ResidualBlock,
    SeparableBlock,
    activation_of,
)
from parapet.models.backbones.body import Body

# From this image size on 2x2 pixels become channels: convolutions of one or three channels use the cores badly.
SPACE_TO_DEPTH_FROM = 16


def plain(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Blocks of convolution, batch norm and activation."""
    return _two_stage(PlainBlock, genome, image_shape, classes)


def residual(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Pre-activation residual blocks (He et al. 2016, "Identity Mappings in Deep Residual Networks")."""
    return _two_stage(ResidualBlock, genome, image_shape, classes)


def separable(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Depthwise-separable blocks, the cheapest ones (Howard et al. 2017, "MobileNets")."""
    return _two_stage(SeparableBlock, genome, image_shape, classes)


def _two_stage(block: Callable[[int, int, int, str], nn.Module], genome: Genome, image_shape: tuple[int, int, int],
               classes: int) -> Body:
    channels, height, width = image_shape
    unshuffle = height >= SPACE_TO_DEPTH_FROM and height % 2 == 0 and width % 2 == 0
    patch = 2 if unshuffle else 1
    height, width = math.ceil(height // patch / 2), math.ceil(width // patch / 2)
    if min(height, width) < 2:
        raise InputError(f"images of {image_shape[1]}x{image_shape[2]} pixels are too small for two stages; "
                         "the smallest allowed size is 3x3.")
    activation, first, second = genome.activation, genome.width, 2 * genome.width
    stem = nn.Sequential(nn.PixelUnshuffle(patch) if unshuffle else nn.Identity(),
                         NormalisedConvolution(channels * patch**2, first), activation_of(activation))
    stages = (nn.Sequential(*(block(first, first, 1, activation) for _ in range(genome.depth))),
              nn.Sequential(block(first, second, 2, activation),
                            *(block(second, second, 1, activation) for _ in range(genome.depth - 1))))
    head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(second * (height // 2) * (width // 2), classes))
    return Body(stem, stages, (first, second), head)
