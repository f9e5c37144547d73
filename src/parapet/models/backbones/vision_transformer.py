"""A small vision transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words").

Without a class token: the mean over the patches serves small transformers better (Beyer et al. 2022, "Better plain
ViT baselines for ImageNet-1k"). Features between the blocks are a grid, so that the denoisers of the convolutional
networks apply.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.backbones.blocks import SelfInitialised, activation_of
from parapet.models.backbones.body import Body, check_size

# Patches per side. Attention grows with the square of their number; CIFAR has 8x8 patches of 4x4 pixels.
LONGEST_SIDE = 8
HEAD_WIDTH = 32
# Layer normalisation of one number gives zero, and of two numbers only signs, without a gradient.
SMALLEST_WIDTH = 3
MLP_RATIO = 2


class PatchEmbedding(SelfInitialised):
    """Square patches, each mapped to a vector by one linear map, plus a learned position embedding."""

    def __init__(self, image_shape: tuple[int, int, int], dimension: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        size = max(2, math.ceil(max(height, width) / LONGEST_SIDE))
        self.margin = (0, -width % size, 0, -height % size)
        self.project = nn.Conv2d(channels, dimension, size, size)
        self.position = nn.Parameter(torch.zeros(1, dimension, math.ceil(height / size), math.ceil(width / size)))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the position embeddings; the linear map is initialised like any other convolution."""
        nn.init.normal_(self.position, std=0.02, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to a grid of patches (N, dimension, rows, columns)."""
        if any(self.margin):
            images = pad(images, self.margin)
        patches: Tensor = self.project(images)
        return patches + self.position


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) with heads of at most `HEAD_WIDTH` dimensions.

    The heads together have `dimension` rounded up to a multiple of their number, so that every width is allowed.
    Written as matrix products, which the FLOP counter counts and which can be differentiated twice.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.heads = math.ceil(dimension / HEAD_WIDTH)
        inner = self.heads * math.ceil(dimension / self.heads)
        self.query_key_value = nn.Linear(dimension, 3 * inner)
        self.project = nn.Linear(inner, dimension)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, tokens, dimension) to the same shape."""
        split = self.query_key_value(tokens).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), dim=-1)
        mixed: Tensor = self.project((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each on normalised tokens and with a residual (pre-norm)."""

    def __init__(self, dimension: int, activation: str) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(dimension), SelfAttention(dimension))
        self.perceptron = nn.Sequential(nn.LayerNorm(dimension), nn.Linear(dimension, MLP_RATIO * dimension),
                                        activation_of(activation), nn.Linear(MLP_RATIO * dimension, dimension))

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, tokens, dimension) to the same shape."""
        tokens = tokens + self.attention(tokens)
        change: Tensor = self.perceptron(tokens)
        return tokens + change


class TransformerStage(nn.Sequential):
    """Transformer blocks on a grid of patches."""

    def __init__(self, dimension: int, depth: int, activation: str) -> None:
        super().__init__(*(TransformerBlock(dimension, activation) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        """(N, dimension, rows, columns) to the same shape."""
        tokens = super().forward(features.flatten(2).transpose(1, 2))
        grid: Tensor = tokens.transpose(1, 2).unflatten(2, features.shape[2:])
        return grid


class TransformerHead(nn.Module):
    """The mean over the normalised patches, then a linear map."""

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)
        self.classifier = nn.Linear(dimension, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(N, dimension, rows, columns) to logits (N, classes)."""
        logits: Tensor = self.classifier(self.norm(features.flatten(2).transpose(1, 2)).mean(1))
        return logits


def vit(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Embeddings of `width` numbers and two stages, the halves of the network, of `depth` blocks each."""
    check_size(image_shape, 3, "the patches of vit")
    if genome.width < SMALLEST_WIDTH:
        raise InputError(f"width is {genome.width}, too few numbers to normalise for the backbone vit; "
                         f"it must be a whole number from {SMALLEST_WIDTH}.")
    stages = tuple(TransformerStage(genome.width, genome.depth, genome.activation) for _ in range(2))
    return Body(PatchEmbedding(image_shape, genome.width), stages, (genome.width,) * 2,
                TransformerHead(genome.width, classes))
