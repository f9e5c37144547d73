"""Models small enough to follow with a pencil: logits that are the image's pixels, times a factor."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Logits that are the image's first `classes` pixels, times `factor`."""

    def __init__(self, classes: int = 2, factor: float = 1.0) -> None:
        super().__init__()
        self.classes, self.factor = classes, factor

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return images.flatten(1)[:, :self.classes] * self.factor


def image(*pixels: float) -> Tensor:
    """One image of these pixels in a row, (1, 1, 1, n)."""
    return torch.tensor([[[list(pixels)]]])


def small_network(generator: torch.Generator, classes: int = 3) -> nn.Module:
    """A smooth network with batch norm over (1, 4, 4) images, its weights drawn from `generator` alone."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(),
                            nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, classes))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return network
