"""The network of a genome: input filter, normalisation, stem, two stages, denoiser, linear head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.backbones import ACTIVATIONS, BLOCKS, NormalisedConvolution
from parapet.models.denoisers import DENOISERS
from parapet.models.filters import FILTERS, LearnedSmoothing

# From this image size on, 2x2 pixels become channels first: convolutions over one or three channels starve the cores.
SPACE_TO_DEPTH_FROM = 16


class Normalise(nn.Module):
    """(images - mean) / std per channel, with the statistics as buffers, so that they travel with the weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return (images - self.mean) / self.std


class Network(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits (N, classes); use `build` for weights that are initialised."""

    def __init__(self, genome: Genome, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.genome, self.image_shape, self.classes = genome, tuple(image_shape), classes
        channels, height, width = image_shape
        unshuffle = height >= SPACE_TO_DEPTH_FROM and height % 2 == 0 and width % 2 == 0
        patch = 2 if unshuffle else 1
        height, width = height // patch, width // patch
        block, first, second = BLOCKS[genome.backbone], genome.width, 2 * genome.width
        activation = genome.activation

        self.input_filter = FILTERS[genome.input_filter](channels) if genome.input_filter in FILTERS else None
        self.normalise = Normalise(channels)
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch) if unshuffle else nn.Identity(),
                                  NormalisedConvolution(channels * patch**2, first), ACTIVATIONS[activation]())
        self.stage1 = nn.Sequential(*(block(first, first, 1, activation) for _ in range(genome.depth)))
        self.stage2 = nn.Sequential(block(first, second, 2, activation),
                                    *(block(second, second, 1, activation) for _ in range(genome.depth - 1)))
        denoised = first if genome.denoiser_stage == 1 else second
        self.denoiser = DENOISERS[genome.denoiser](denoised) if genome.denoiser in DENOISERS else None
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        if min(height, width) < 2:
            raise InputError(f"images of {image_shape[1]}x{image_shape[2]} pixels are too small for two stages; "
                             "the smallest allowed size is 4x4.")
        self.head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(),
                                  nn.Linear(second * (height // 2) * (width // 2), classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        if self.input_filter is not None:
            images = self.input_filter(images)
        features = self.stage1(self.stem(self.normalise(images)))
        if self.denoiser is not None and self.genome.denoiser_stage == 1:
            features = self.denoiser(features)
        features = self.stage2(features)
        if self.denoiser is not None and self.genome.denoiser_stage == 2:
            features = self.denoiser(features)
        return self.head(features)


def build(genome: Genome, image_shape: tuple[int, int, int], classes: int, *, generator: torch.Generator,
          mean: Tensor | None = None, std: Tensor | None = None) -> Network:
    """A freshly initialised network on the CPU.

    `mean` and `std` are the training images' statistics per channel, shape (C,). Weights are drawn from
    `generator` alone (He et al. 2015 for convolutions); the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        network = Network(genome, image_shape, classes)
    _initialise(network, generator)
    for name, value in (("mean", mean), ("std", std)):
        if value is not None:
            getattr(network.normalise, name).copy_(value.reshape(1, -1, 1, 1))
    return network


def _initialise(network: Network, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if getattr(module, "starts_at_zero", False):
                nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, LearnedSmoothing):
            module.reset()
