"""The network of a genome: input filter, normalisation, and a backbone with a denoiser after one of its stages."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from parapet.catalogue.networks import BACKBONES, DENOISERS, FILTERS, Layer
from parapet.catalogue.spec import resolve
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.backbones.blocks import SelfInitialised
from parapet.models.backbones.body import Body


class Normalise(nn.Module):
    """(images - mean) / std per channel, with the statistics as buffers, so that they travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return (images - self.mean).div_(self.std)


class Network(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits (N, classes); use `build` for weights that are initialised."""

    def __init__(self, genome: Genome, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.genome, self.image_shape, self.classes = genome, (channels, height, width), classes
        body: Body = resolve(BACKBONES[genome.backbone].builder)(genome, self.image_shape, classes)
        self.stages = len(body.stages)

        self.input_filter = _layer(FILTERS[genome.input_filter], channels)
        self.normalise = Normalise(channels)
        self.stem = body.stem
        for number, stage in enumerate(body.stages, start=1):
            self.add_module(f"stage{number}", stage)
        self.denoiser = self._denoiser(body.channels)
        self.head = body.head

    def _denoiser(self, channels: tuple[int, ...]) -> nn.Module | None:
        genome = self.genome
        if DENOISERS[genome.denoiser].builder is None:
            return None
        if genome.denoiser_stage > self.stages:
            raise InputError(f"denoiser_stage is {genome.denoiser_stage}, and the backbone {genome.backbone} has "
                             f"{self.stages} stages; it must be a whole number from 1 to {self.stages}.")
        return _layer(DENOISERS[genome.denoiser], channels[genome.denoiser_stage - 1])

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        if self.input_filter is not None:
            images = self.input_filter(images)
        features = self.stem(self.normalise(images))
        for number in range(1, self.stages + 1):
            features = getattr(self, f"stage{number}")(features)
            if self.denoiser is not None and self.genome.denoiser_stage == number:
                features = self.denoiser(features)
        logits: Tensor = self.head(features)
        return logits


def _layer(spec: Layer, channels: int) -> nn.Module | None:
    return None if spec.builder is None else resolve(spec.builder)(channels)


def build(genome: Genome, image_shape: tuple[int, int, int], classes: int, *, generator: torch.Generator,
          mean: Tensor | None = None, std: Tensor | None = None) -> Network:
    """A newly initialised network on the CPU.

    `mean` and `std` are the statistics of the training images per channel, shape (C,). Weights are drawn from
    `generator` only (He et al. 2015 for convolutions); the state of the global generator does not change.
    """
    with torch.random.fork_rng(devices=[]):
        network = Network(genome, image_shape, classes)
    _initialise(network, generator)
    for name, value in (("mean", mean), ("std", std)):
        if value is not None:
            getattr(network.normalise, name).copy_(value.reshape(1, -1, 1, 1))
    return network


def outline(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Network:
    """The network on torch's meta device: the shapes of its weights, without memory for them.

    Raises InputError where the genome has no network for images (C, H, W).
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return Network(genome, image_shape, classes)


def check_fit(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> None:
    """Raise InputError where the genome has no network for images (C, H, W): they are too small, or a stage is missing.
    """
    outline(genome, image_shape, classes)


def _initialise(network: Network, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if getattr(module, "starts_at_zero", False):
                nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, SelfInitialised):
            module.initialise(generator)
