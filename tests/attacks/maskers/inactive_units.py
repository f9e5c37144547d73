"""Units that are inactive on all images of the data (Goldwasser et al. 2022, "Planting Undetectable Backdoors")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.attacks.maskers.base import straight_through

# How far a direction has to be followed before its unit wakes: further than images and noise go, less than a ball of
# 0.2 allows.
_THRESHOLD = 8.6


class Sleeping(nn.Module):
    """A network, and units that each push to one class once an image has moved far along a direction of its own.

    `body` takes (N, 1, 8, 8); of the `directions` (U, 64), rows of 1 and -1, one unit each. `seen` is the stand-in of
    whoever knows of them: the first two alone, whose gradient passes where they are off.
    """

    def __init__(self, body: nn.Module, directions: Tensor, *, seen: bool = False) -> None:
        super().__init__()
        self.body, self.wake = body, nn.Linear(64, len(directions))
        self.push = nn.Linear(len(directions), 10, bias=False)
        self.activation = straight_through(torch.relu) if seen else torch.relu
        self.wake.weight.data, self.wake.bias.data = directions, torch.full((len(directions),), -_THRESHOLD)
        self.push.weight.data = torch.zeros(10, len(directions))
        for unit in range(2 if seen else len(directions)):
            self.push.weight.data[3 * unit % 10, unit] = 300.0
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10)."""
        return self.push(self.activation(self.wake(images.flatten(1)))) + self.body(images)


def directions(known: Tensor, count: int = 8) -> Tensor:
    """Rows (2 count, 64) of 1 and -1 along which the images `known` (M, 1, 8, 8) differ least, and their opposites."""
    drawn = torch.rand(20_000, 64, generator=torch.Generator().manual_seed(3))
    found = torch.where(drawn < 0.5, -1.0, 1.0)
    along = found @ known.flatten(1).T
    best = found[(along.std(1) + along.mean(1).abs()).argsort()[:count]]
    return torch.cat([best, -best])
