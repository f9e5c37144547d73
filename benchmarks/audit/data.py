"""The images that nets of the audit's benchmark see: the digits, and what is made of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from parapet.config import DataPrepConfig
from parapet.data import dataset, sources, splits
from parapet.data.sources import DIGIT_CLASSES, Source
from parapet.errors import InputError

# Published data sets are cut to so many training images, and so many test images.
_PUBLISHED = {"mnist": (5000, 200), "cifar10": (4000, 200)}
MADE = ("digits", "two classes", "hundred classes", "coloured digits")
_PAIRS, _TEST_PAIRS = 8000, 400


def prepared(name: str, folder: Path) -> dataset.Dataset:
    """The data set called `name`, prepared once below `folder`.

    Raises InputError where it is a published one and the folder PARAPET_DATA does not hold it.
    """
    place = folder / f"data-{name.replace(' ', '-')}"
    if not place.exists():
        source, limits = _made(name), DataPrepConfig()
        if source is None:
            given = os.environ.get("PARAPET_DATA")
            if not given:
                raise InputError(f"PARAPET_DATA is not set; it must name a folder with {name} in torchvision's layout.")
            source = sources.load(name, Path(given))
            limits = DataPrepConfig(limit_train=_PUBLISHED[name][0], limit_test=_PUBLISHED[name][1])
        dataset.write(place, source, splits.split(source, limits, seed=0))
    return dataset.Dataset.open(place)


def _made(name: str) -> Source | None:
    from sklearn.datasets import load_digits  # slow to import, and every copy of a model imports this module

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64)
    rng = np.random.default_rng(0)
    if name == "digits":
        return Source("digits", images, labels, None, None, 16, DIGIT_CLASSES)
    if name == "two classes":
        few = np.isin(labels, (3, 8))
        return Source(name, images[few], (labels[few] == 8).astype(np.int64), None, None, 16, ("3", "8"))
    if name == "coloured digits":
        ink, paper = rng.random((2, len(images), 3, 1, 1))
        # Ink and paper differ in every colour, so that the digit can be seen in each of them.
        grey = images / 16
        coloured = grey * (0.6 + 0.4 * ink) + (1 - grey) * 0.4 * paper
        return Source(name, np.round(coloured * 255).astype(np.uint8), labels, None, None, 255, DIGIT_CLASSES)
    if name == "hundred classes":
        order = rng.permutation(len(images))
        test, train = order[:400], order[400:]
        parts = [_pairs(images[rows], labels[rows], count, rng) for rows, count in (
            (train, _PAIRS), (test, _TEST_PAIRS))]
        return Source(name, *parts[0], *parts[1], 16, tuple(f"{number:02d}" for number in range(100)))
    return None


def _pairs(images: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """`count` numbers of two digits side by side, as many of each: images (count, 1, 8, 16), labels (count,)."""
    numbers = np.arange(count) % 100
    rows = [np.array([rng.choice(np.flatnonzero(labels == digit)) for digit in digits])
            for digits in (numbers // 10, numbers % 10)]
    return np.concatenate([images[rows[0]], images[rows[1]]], axis=3), numbers.astype(np.int64)
