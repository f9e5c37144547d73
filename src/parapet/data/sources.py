"""A data set as it was published: its files verified, not yet split."""

from __future__ import annotations

import pickle  # nosec B403 # for its exception
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from parapet.catalogue.datasets import DATASETS
from parapet.catalogue.spec import resolve
from parapet.data import digits
from parapet.data.formats import read_cifar, read_idx, read_svhn
from parapet.data.published import check_name, places, published, read_whole
from parapet.errors import InputError, is_of_the_machine
from parapet.quoting import words

DIGIT_CLASSES = tuple("0123456789")
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, eq=False)
class Source:
    """Images and labels in the order of the published files.

    images: uint8 (N, C, H, W); pixel / levels lies in [0, 1].
    labels: int64 (N,), the position in `classes`.
    test_images, test_labels: the published test split, or None where there is none (digits).
    levels: the largest possible pixel value, 16 for digits and 255 for the others.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray | None
    test_labels: np.ndarray | None
    levels: int
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        self._check(self.images, self.labels)
        if (self.test_images is None) != (self.test_labels is None):
            raise InputError(f"{self.name} has test images or test labels and not both; give both, or neither.")
        if self.test_images is not None and self.test_labels is not None:
            self._check(self.test_images, self.test_labels)
            if self.test_images.shape[1:] != self.images.shape[1:]:
                raise InputError(f"{self.name} has training images of shape {self.images.shape[1:]} and test images "
                                 f"of shape {self.test_images.shape[1:]}; all images must have one shape.")

    def _check(self, images: np.ndarray, labels: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
            raise InputError(f"{self.name} has images of type {images.dtype} and shape {images.shape}; "
                             "they must be uint8 of shape (N, C, H, W) with N at least 1.")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise InputError(f"{self.name} has labels of type {labels.dtype} and shape {labels.shape}; "
                             f"they must be int64, one for each of the {len(images)} images.")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise InputError(f"{self.name} has labels from {labels.min()} to {labels.max()}; "
                             f"its {len(self.classes)} classes allow 0 to {len(self.classes) - 1}.")
        if images.max() > self.levels:
            raise InputError(f"{self.name} has a pixel of {images.max()}; its pixels must lie in 0..{self.levels}.")


def load(name: str, *roots: Path) -> Source:
    """Read a data set. The published checksum of every file is verified before the file is parsed.

    name: one of `parapet.catalogue.datasets.DATASETS`.
    roots: folders to search, in this order; in each first `root`/`name`, then `root` itself.
    Raises InputError for an unknown name and for a missing or damaged folder or file.
    """
    check_name(name)
    try:
        source: Source = resolve(DATASETS[name].reader)(name, places(name, roots))
        return source
    except InputError:
        raise
    except Exception as error:
        if DATASETS[name].reader.startswith(f"{__name__}:") or is_of_the_machine(error):
            raise
        raise InputError(f"the data set {name} cannot be read by {DATASETS[name].reader} ({type(error).__name__}: "
                         f"{words(error)}); correct the plugin that declares it.") from error


def read_idx_files(name: str, where: list[Path]) -> Source:
    """MNIST or Fashion-MNIST, from the first of the folders `where` that holds its files."""
    from torchvision import datasets

    images, labels, test_images, test_labels = (_parse(read_idx, *entry) for entry in _contents(name, where))
    classes = DIGIT_CLASSES if name == "mnist" else tuple(datasets.FashionMNIST.classes)
    return Source(name, images[:, None], labels.astype(np.int64), test_images[:, None], test_labels.astype(np.int64),
                  255, classes)


def read_digits(name: str, where: list[Path]) -> Source:
    """The digits of scikit-learn, from the first of the folders `where` that holds them."""
    base = next((place for place in where if any((place / name).exists() for name in digits.FILES)), None)
    if base is None:
        raise InputError(f"digits is not in {' nor in '.join(map(str, where))}; {digits.ADVICE}.")
    images, labels = digits.read(base)
    return Source(name, images, labels, None, None, digits.LEVELS, DIGIT_CLASSES)


def read_cifar_files(name: str, where: list[Path]) -> Source:
    """CIFAR-10 or CIFAR-100 from the first of the folders `where` that holds its files."""
    *batches, test, meta = (_parse(read_cifar, *entry) for entry in _contents(name, where))
    prefix = "fine_" if name == "cifar100" else ""
    images = np.concatenate([batch["data"] for batch in batches])
    labels = np.concatenate([batch[f"{prefix}labels"] for batch in batches])
    return Source(name, images.reshape(-1, 3, 32, 32), labels.astype(np.int64),
                  test["data"].reshape(-1, 3, 32, 32), np.array(test[f"{prefix}labels"], dtype=np.int64),
                  255, tuple(meta[f"{prefix}label_names"]))


def read_svhn_files(name: str, where: list[Path]) -> Source:
    """SVHN from the first of the folders `where` that holds its files."""
    (images, labels), (test_images, test_labels) = (_parse(read_svhn, *entry) for entry in _contents(name, where))
    return Source(name, images, labels, test_images, test_labels, 255, DIGIT_CLASSES)


def _contents(name: str, where: list[Path]) -> Iterator[tuple[Path, bytes]]:
    """Path and verified bytes of each published file, one after the other; InputError for a missing or damaged one."""
    wanted = published(name)
    base = wanted.find(where)
    advice = f"run `parapet data fetch {name}`"
    if base is None:
        raise InputError(f"{name} is not in {' nor in '.join(map(str, where))} ({wanted.files[0].path} is not there); "
                         f"{advice}, or name a folder that holds it in torchvision's layout with PARAPET_DATA.")
    for file, form in zip(wanted.files, wanted.present(base)):
        form = form or file
        yield base / form.path, read_whole(base / form.path, form.md5, "md5", advice)


def _parse(reader: Callable[[bytes], _Parsed], path: Path, content: bytes) -> _Parsed:
    try:
        return reader(content)
    except (ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} has the right checksum and cannot be parsed ({error}); "
                         "its format is not the one that Parapet reads.") from None
