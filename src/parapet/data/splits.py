"""Train, validation and test splits: stratified, drawn from a seed; a published test split is kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from parapet.errors import InputError

if TYPE_CHECKING:
    from parapet.config import DataPrepConfig
    from parapet.data.sources import Source

SPLITS = ("train", "validation", "test")


def split(source: Source, config: DataPrepConfig, seed: int) -> dict[str, np.ndarray]:
    """Positions (int64) of the images of `train`, `validation` and `test`; no image is in two of them.

    Validation and test hold the same share of every class, to within one image. Where the source has a published
    test split, `test` is all of it, as positions in `source.test_images`, and only validation is taken from the
    training images; otherwise all three are taken from `source.images`. `limit_train` and `limit_test` then keep a
    stratified part of their split and change no other split. The order inside a class is drawn from `seed`.

    Raises InputError where a split lacks a class.
    """
    rng = np.random.default_rng(seed)
    train = _shuffled_by_class(source.labels, len(source.classes), rng)
    sizes, total = _sizes(train), len(source.labels)
    if source.test_labels is not None:
        test = _shuffled_by_class(source.test_labels, len(source.classes), rng)
    elif config.validation_share + config.test_share < 1:
        test, train = _cut(train, _allocate(sizes, round(config.test_share * total)))
    else:
        raise InputError(f"data_prep.validation_share {config.validation_share:g} and data_prep.test_share "
                         f"{config.test_share:g} leave nothing to train on; their sum must be below 1.")
    validation, train = _cut(train, _allocate(sizes, round(config.validation_share * total)))
    parts = {"train": train, "validation": validation, "test": test}
    for name, part in parts.items():
        _check_classes(source, config, name, part)
    parts["train"] = _limit(source, "train", train, config.limit_train)
    parts["test"] = _limit(source, "test", test, config.limit_test)
    return {name: np.concatenate(parts[name]) for name in SPLITS}


def interleave(labels: np.ndarray) -> np.ndarray:
    """An order (int64 positions) in which every prefix is stratified; the order inside a class is kept.

    The i-th of the n images of a class (i from 0) is sorted by (i + 1/2) / n, so that a prefix of k images holds k
    times the share of the class, to within about one image.
    """
    counts = np.bincount(labels)
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.flatnonzero(counts):
        rank[labels == label] = np.arange(counts[label])
    return np.lexsort((labels, (rank + 0.5) / counts[labels]))


def _shuffled_by_class(labels: np.ndarray, classes: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.permutation(np.flatnonzero(labels == label)) for label in range(classes)]


def _cut(by_class: list[np.ndarray], counts: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first `counts[c]` images of each class, and the rest."""
    pairs = list(zip(by_class, counts))
    return [images[:count] for images, count in pairs], [images[count:] for images, count in pairs]


def _sizes(by_class: list[np.ndarray]) -> np.ndarray:
    return np.array([len(images) for images in by_class])


def _allocate(sizes: np.ndarray, total: int) -> np.ndarray:
    """Number of images of each class that make `total`: quotas, rounded by the largest-remainder method."""
    # Integer arithmetic, so that equal remainders are equal on every machine; ties go to the lower class.
    counts, remainders = np.divmod(sizes * total, sizes.sum())
    short = total - counts.sum()
    counts[np.argsort(-remainders, kind="stable")[:short]] += 1
    return counts


def _limit(source: Source, name: str, part: list[np.ndarray], limit: int | None) -> list[np.ndarray]:
    sizes = _sizes(part)
    if limit is None or limit >= sizes.sum():
        return part
    kept, _ = _cut(part, _allocate(sizes, limit))
    for label, images in enumerate(kept):
        if not len(images):
            raise InputError(f"data_prep.limit_{name} is {limit}, which leaves no image of class "
                             f"{source.classes[label]!r} of {source.name} in the {name} split; "
                             f"give at least {math.ceil(sizes.sum() / sizes.min())}.")
    return kept


def _check_classes(source: Source, config: DataPrepConfig, name: str, part: list[np.ndarray]) -> None:
    for label, images in enumerate(part):
        if len(images):
            continue
        who = f"class {source.classes[label]!r} of {source.name}"
        if name == "test" and source.test_labels is not None:
            raise InputError(f"{who} is missing from the published test split; every class must be in every split, "
                             "so take a whole copy of the data set.")
        have = int((source.labels == label).sum())
        if have == 0:
            raise InputError(f"{who} is missing from the {name} split, because the data set has no image of it; "
                             "every class must be in every split, so take a whole copy of the data set.")
        shares = f"data_prep.validation_share {config.validation_share:g}"
        if source.test_labels is None:
            shares += f" and data_prep.test_share {config.test_share:g}"
        raise InputError(f"{who} is missing from the {name} split: its number of images, {have}, is too small for "
                         f"{shares}; change the shares, or add images of that class.")
