"""Residual networks of any width and depth: PreActResNet (He et al. 2016) and WideResNet (Zagoruyko et al. 2016).

He, Zhang, Ren, Sun: "Identity Mappings in Deep Residual Networks"; Zagoruyko, Komodakis: "Wide Residual Networks".
Both are stages of pre-activation blocks of two 3x3 convolutions, each stage but the first halving the image.
"""

from __future__ import annotations

from torch import nn

from parapet.catalogue.networks import BACKBONES
from parapet.genome import Genome
from parapet.models.backbones.blocks import ResidualBlock, activation_of, convolution
from parapet.models.backbones.body import Body, check_size

# The paper's stem has 16 channels for every widening factor.
WIDE_STEM = 16


def preact_resnet(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Four stages of `depth` blocks with w, 2w, 4w and 8w channels; PreActResNet-18 is width 64, depth 2."""
    return _residual_network(genome, image_shape, classes, genome.width)


def wide_resnet(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Three stages of `depth` blocks with w, 2w and 4w channels; WRN-n-k is width 16k, depth (n - 4) / 6."""
    return _residual_network(genome, image_shape, classes, min(WIDE_STEM, genome.width))


def _residual_network(genome: Genome, image_shape: tuple[int, int, int], classes: int, stem: int) -> Body:
    stages = BACKBONES[genome.backbone].stages
    # The last stage needs at least two pixels per side, which it halves to one.
    check_size(image_shape, 2 ** (stages - 2) + 1, f"the {stages} stages of {genome.backbone}")
    widths = tuple(genome.width * 2**place for place in range(stages))
    strides = (1, *[2] * (stages - 1))
    bodies = tuple(_stage(inputs, outputs, stride, genome)
                   for inputs, outputs, stride in zip((stem, *widths), widths, strides))
    head = nn.Sequential(nn.BatchNorm2d(widths[-1]), activation_of(genome.activation), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(widths[-1], classes))
    return Body(convolution(image_shape[0], stem), bodies, widths, head)


def _stage(inputs: int, outputs: int, stride: int, genome: Genome) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(inputs, outputs, stride, genome.activation),
                         *(ResidualBlock(outputs, outputs, 1, genome.activation) for _ in range(genome.depth - 1)))
