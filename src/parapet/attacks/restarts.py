"""Several runs of one attack on the same images: which images still stand, and the best version of each so far.

Independent runs, such as restarts and targets, share batches: small batches leave cores and accelerators idle, and an
image that one run breaks leaves the others at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from parapet.attacks.batching import shrink

# Several runs share a batch of at most so many points, and so many values (512 colour images of 32x32); a single run
# may have more. Networks for larger images use the machine fully with fewer points.
_TOGETHER, _PIXELS = 512, 512 * 3 * 32 * 32


class BestOfRuns:
    """The best version of each image (N, C, H, W) over all runs: misclassified, else of the largest objective.

    `rows` are the images for the next run: those that stand, and a few broken ones that fill the batch.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.values = torch.full((len(images),), -torch.inf, device=images.device)
        self.rows = torch.arange(len(images), device=images.device)

    def batches(self, runs: int, *, apart: bool = False) -> Iterator[tuple[range, Tensor]]:
        """(the runs that share the next batch, the image of each of its points (n,)), until all `runs` are done or no
        image stands. `keep` must be called after each batch. With `apart` each run has a batch of its own, for an
        objective that identifies images by their position."""
        done = 0
        while done < runs and not self.finished:
            group = range(done, done + 1) if apart else together(done, runs, len(self.rows), self.images[0].numel())
            yield group, self.rows.repeat(len(group))
            done = group.stop

    def keep(self, points: Tensor, values: Tensor, broken: Tensor) -> None:
        """Store the results of runs over `rows`: points (n, C, H, W), objective (n,), whether misclassified (n,)."""
        # A broken image outranks every unbroken one; among equals the larger objective is kept.
        values = torch.where(broken, torch.inf, values.float())
        for ends, reached in zip(points.split(len(self.rows)), values.split(len(self.rows))):
            better = reached > self.values[self.rows]
            self.images[self.rows[better]] = ends[better]
            self.values[self.rows[better]] = reached[better]
        if (index := shrink(self.values[self.rows] < torch.inf)) is not None:
            self.rows = self.rows[index]

    @property
    def finished(self) -> bool:
        """Whether no image stands."""
        return len(self.rows) == 0


def together(done: int, runs: int, images: int, pixels: int) -> range:
    """The runs after the first `done` of `runs` that share the next batch: batches of even size, at least one run.

    images: how many each run has; pixels: how many values an image has, C * H * W.
    """
    most = max(1, min(_TOGETHER, _PIXELS // pixels) // max(images, 1))
    batches = -(-(runs - done) // most)
    return range(done, done + -(-(runs - done) // batches))


def standing(broken: Tensor, owners: Tensor) -> Tensor:
    """Whether no point of the same image is broken, bool (n,); broken: bool (n,); owners: each point's image (n,)."""
    return ~torch.isin(owners, owners[broken])
