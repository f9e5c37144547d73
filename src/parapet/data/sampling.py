"""Fewer images than there are: a draw from a seed, stratified by label, whatever order the images come in.

Intervals assume that the images were drawn at random. The first images of a file that is sorted by class are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions (int64, ascending) of `count` of the images with these `labels` (N,), all where there are no more.

    Of each label they hold its share of all images, rounded up or down. Each image is as likely as any other to be
    among them, and the same seed gives the same positions. `count` must be at least 1 and `seed` at least 0.
    """
    total = len(labels)
    if count >= total:
        return np.arange(total)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(total)
    by_label = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    # Every (total / count)-th from a random start, in whole numbers: Madow 1949, systematic sampling.
    places = (int(rng.integers(total)) + np.arange(count, dtype=np.int64) * total) // count
    return np.sort(by_label[places])


@dataclass(frozen=True)
class Drawn:
    """Of how many images `count` were taken, and with what `seed`: None where they are the first of an order that was
    drawn when the data set was prepared."""

    count: int
    available: int
    seed: int | None

    def __str__(self) -> str:
        if self.count == self.available:
            return f"all {self.available:,} images" if self.available > 1 else "its only image"
        how = f"drawn with seed {self.seed}" if self.seed is not None else "drawn when the data set was prepared"
        return f"{self.count:,} of {self.available:,} images, {how}, stratified by label"

    def to_dict(self) -> dict[str, int | None]:
        """Plain values for a record."""
        return {"count": self.count, "available": self.available, "seed": self.seed}
