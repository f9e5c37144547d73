"""Several runs of one attack on the same images: which images still stand, and the best version of each so far."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.batching import shrink


class BestOfRuns:
    """Of each image (N, C, H, W) the best version over all runs: a broken one, else that of the largest objective.

    `rows` are the images that the next run should attack: those that stand, and a few broken ones that fill the batch.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.values = torch.full((len(images),), -torch.inf, device=images.device)
        self.rows = torch.arange(len(images), device=images.device)

    def keep(self, points: Tensor, values: Tensor, broken: Tensor) -> None:
        """Take over what a run over `rows` found: points (n, C, H, W), their objective, whether broken."""
        # A broken image outranks every unbroken one; among equals the larger objective is kept.
        values = torch.where(broken, torch.inf, values.float())
        better = values > self.values[self.rows]
        self.images[self.rows[better]] = points[better]
        self.values[self.rows[better]] = values[better]
        if (index := shrink(self.values[self.rows] < torch.inf)) is not None:
            self.rows = self.rows[index]

    @property
    def finished(self) -> bool:
        """Whether no image stands."""
        return len(self.rows) == 0
