"""Answers that are drawn, from a generator or from the image itself, and no word of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from tests.attacks.maskers.base import Model, drawn_from


class Noisy(nn.Module):
    """Gaussian noise on the input, in evaluation too, and no word of it."""

    def __init__(self, network: nn.Module, deviation: float = 0.2) -> None:
        super().__init__()
        self.network, self.deviation = network, deviation

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.deviation * torch.randn_like(images))


def hashed_noise(network: Model) -> Model:
    """Noise that is drawn from the image itself: the same each time, another one next door."""
    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            phase = images.flatten(1).double() @ torch.linspace(1e4, 2e4, images[0].numel()).double()
            places = torch.arange(1, images[0].numel() + 1).double()
            noise = torch.sin(phase[:, None] * places).float().reshape(images.shape)
        return network(images + 0.15 * noise)
    return model


Draws = Callable[[Tensor, int], Tensor]


def afresh(images: Tensor, count: int) -> Tensor:
    """`count` numbers in [0, 1) for each image, (N, count), others each time."""
    return torch.rand(len(images), count, device=images.device)


def resized(network: Model, draws: Draws) -> Model:
    """Images made smaller or larger and moved by up to half a pixel (random resizing and padding, Xie et al. 2018)."""
    def model(images: Tensor) -> Tensor:
        size, right, down = (2 * draws(images, 3) - 1).unbind(1)
        still = torch.zeros_like(size)
        rows = torch.stack([torch.stack([1 + 0.1 * size, still, 0.12 * right], 1),
                            torch.stack([still, 1 + 0.1 * size, 0.12 * down], 1)], 1)
        return network(grid_sample(images, affine_grid(rows, list(images.shape), align_corners=False),
                                   align_corners=False))
    return model


class Pruned:
    """Activations that are kept with a chance in proportion to their size (Dhillon et al. 2018)."""

    def __init__(self, network: nn.Module, draws: Draws, share: float = 1.0) -> None:
        self.network, self.draws, self.share = copy.deepcopy(network).eval(), draws, share
        for module in self.network.modules():
            if isinstance(module, nn.SiLU):
                module.register_forward_hook(self._prune)

    def _prune(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        flat = output.flatten(1)
        chance = flat.detach().abs() / flat.detach().abs().sum(1, keepdim=True).clamp(min=1e-9)
        kept = 1 - (1 - chance) ** (self.share * flat.shape[1])
        mask = (self.draws(self.images, flat.shape[1]) < kept).float() / kept.clamp(min=1e-6)
        return (flat * mask).reshape(output.shape)

    def __call__(self, images: Tensor) -> Tensor:
        self.images = images.detach()
        return self.network(images)


def chosen_among(networks: list[Model], draws: Draws) -> Model:
    """One of several networks for each image, by lot."""
    def model(images: Tensor) -> Tensor:
        place = (draws(images.detach(), 1)[:, 0] * len(networks)).long()
        return torch.stack([network(images) for network in networks], 1)[torch.arange(len(images)), place]
    return model


def undeclared(images: Tensor, count: int) -> Tensor:
    """`drawn_from` the pixels: the model looks as if it were not random."""
    return drawn_from(images.detach(), count)
