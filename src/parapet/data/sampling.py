"""A random sample of images from a seed, stratified by label, whatever the order of the images.

Confidence intervals assume that the images were drawn at random. The first images of a file that is sorted by class
are no random sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions (int64, ascending) of `count` of the images with these `labels` (N,); all positions if count >= N.

    The sample holds each label in proportion to its share of all images, rounded up or down. Every image is drawn with
    the same probability, and the same seed gives the same positions. `count` is at least 1, `seed` at least 0.
    """
    total = len(labels)
    if count >= total:
        return np.arange(total)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(total)
    by_label = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    # Systematic sampling (Madow 1949): every (total / count)-th from a random start, in integer arithmetic.
    places = (int(rng.integers(total)) + np.arange(count, dtype=np.int64) * total) // count
    return np.sort(by_label[places])


@dataclass(frozen=True)
class Drawn:
    """How a sample was drawn: `count` of `available` images with `seed`.

    The seed is None where the sample is the beginning of an order that was drawn when the data set was prepared.
    """

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
