"""The prepared data set: a folder of three splits with its fingerprint.

    train.safetensors, validation.safetensors, test.safetensors
        images  uint8 (N, C, H, W); pixel / levels lies in [0, 1]
        labels  int64 (N,), the position in `classes`
        index   int64 (N,), the position in the source (of test images: in its published test split, if it has one)
    dataset.json
        schema_version, name, classes, levels, image_shape, images per split, mean and std, fingerprint, SHA-256 of
        each file, checksum of itself

Needs torch, numpy and safetensors, nothing else: training on a bare GPU machine reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from parapet import files, replacement, sealed
from parapet.data.images import Images
from parapet.data.info import SCHEMA_VERSION, check_files, prepare, read_info
from parapet.data.splits import SPLITS, interleave
from parapet.errors import InputError, WorkError, is_closed, is_no_place, is_of_the_machine, no_place
from parapet.quoting import quote

if TYPE_CHECKING:
    from parapet.data.sources import Source

_FILES = tuple(f"{name}.safetensors" for name in SPLITS)
# Bytes of images that are copied at a time; to count their values takes eight times as many.
_CHUNK = 1 << 20


def write(folder: Path, source: Source, indices: dict[str, np.ndarray]) -> Dataset:
    """Write the prepared folder, whole or not at all, and open it.

    indices: positions for each of train, validation and test, as `parapet.data.split` gives them; they are written
    in an order that interleaves the classes, so that the first k images of a split are a stratified part of it. Beside
    the source it takes some MB of memory, however many images there are.
    Raises InputError where the folder may not be written or holds what is not of it, WorkError where the disk is full.
    """
    check_place(folder)
    parts = {name: _Part.of(source, name, indices[name]) for name in SPLITS}
    fingerprint, moments = _Fingerprint(source.levels, source.classes), _Moments(source.levels)
    try:
        with files.replacing_folder(folder) as partial:
            for name, part in parts.items():
                seen = moments.add if name == "train" else None
                _save(partial / f"{name}.safetensors", part, fingerprint.add(name, part, seen))
            mean, std = moments.result()
            info = {"schema_version": SCHEMA_VERSION, "name": source.name, "classes": list(source.classes),
                    "levels": source.levels, "image_shape": list(source.images.shape[1:]),
                    "images": {name: len(part.labels) for name, part in parts.items()}, "mean": mean, "std": std,
                    "fingerprint": fingerprint.result()}
            sealed.write(partial / "dataset.json", {**info, "files": sealed.digests(partial, _FILES)})
    except OSError as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        if is_no_place(error):
            raise no_place(error) from None
        if is_closed(error):
            raise InputError(f"{folder} cannot be written ({why}); mend the permissions of its folder, or give another "
                             "folder with --out.") from None
        raise WorkError(f"{folder} cannot be written ({why}); make room, then {prepare(folder)}.") from None
    return Dataset.open(folder)


def fingerprint_of(source: Source, indices: dict[str, np.ndarray]) -> str:
    """The fingerprint that `write` would give these splits."""
    fingerprint = _Fingerprint(source.levels, source.classes)
    for name in SPLITS:
        part = _Part.of(source, name, indices[name])
        for _ in fingerprint.add(name, part):
            pass
    return fingerprint.result()


@dataclass(frozen=True)
class Dataset:
    """A prepared folder, described; `split` reads the images.

    image_shape: (C, H, W). images: number of images of each split. levels: a pixel / levels lies in [0, 1].
    mean, std: of the training images, per channel, in [0, 1]. fingerprint: SHA-256 (hex) of all splits, levels
    and classes; equal fingerprints mean equal data.
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    levels: int
    image_shape: tuple[int, int, int]
    images: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    # dataset.json.
    info: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Read dataset.json and see that the splits are there. Raises InputError where they are not."""
        folder = Path(folder)
        info = read_info(folder)
        dataset = cls(folder, info["name"], tuple(info["classes"]), info["levels"], tuple(info["image_shape"]),
                      info["images"], tuple(info["mean"]), tuple(info["std"]), info["fingerprint"], info)
        for name in SPLITS:
            if not dataset._file(name).is_file():
                raise InputError(f"{dataset._file(name)} is missing; {prepare(folder)}.")
        return dataset

    def split(self, name: str, device: str | torch.device = "cpu", limit: int | None = None) -> Images:
        """The images of `train`, `validation` or `test` on `device`, after the file's digest holds; with `limit`, a
        stratified part.

        The part for a smaller limit is the beginning of the part for a larger one. Raises InputError for an unknown
        split and for a damaged file.
        """
        if name not in SPLITS:
            raise InputError(f"{quote(name)} is not a split of {self.folder}; allowed: {', '.join(SPLITS)}.")
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}; it must be at least 1, or None for all images.")
        check_files(self.folder, self.info, [self._file(name).name])
        count = min(limit or self.images[name], self.images[name])
        try:
            with safe_open(self._file(name), framework="pt", device="cpu") as stored:
                if stored.get_slice("images").get_shape() != [self.images[name], *self.image_shape]:
                    raise InputError(f"{self._file(name)} does not hold what dataset.json promises; "
                                     f"{prepare(self.folder)}.")
                part = {key: stored.get_slice(key)[:count].to(device) for key in ("images", "labels", "index")}
        except (SafetensorError, OSError) as error:
            if is_of_the_machine(error):
                raise
            raise InputError(f"{self._file(name)} is damaged ({error}); {prepare(self.folder)}.") from None
        return Images(part["images"], part["labels"], part["index"], self.levels)

    def verify(self) -> None:
        """Recompute the fingerprint from the files, a split in memory at a time. Raises InputError where it differs."""
        fingerprint = _Fingerprint(self.levels, self.classes)
        for name in SPLITS:
            stored = self.split(name)
            part = _Part(stored.images.numpy(), np.arange(len(stored)), stored.labels.numpy(), stored.index.numpy())
            for _ in fingerprint.add(name, part):
                pass
        found = fingerprint.result()
        if found != self.fingerprint:
            raise InputError(f"{self.folder} is damaged: its fingerprint is {found[:12]}..., and dataset.json says "
                             f"{self.fingerprint[:12]}...; {prepare(self.folder)}.")

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def check_place(folder: Path) -> None:
    """Raise InputError where `write` would delete what is not of a prepared data set."""
    replacement.refuse_to_replace(folder, [], _marks(folder), ["dataset.json", *_FILES])


def _marks(folder: Path) -> list[str]:
    """What tells a folder of `write`: its description, and where that is lost, nothing but the splits."""
    splits = {*_FILES}
    only_splits = folder.is_dir() and {path.name for path in folder.iterdir()} <= splits
    return ["dataset.json", *(splits if only_splits else ())]


@dataclass(frozen=True)
class _Part:
    """A split that is not copied out of its source yet: of `images` (M, C, H, W) those at `places` (N,), their
    `labels` and their `index`, as they will be stored."""

    images: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, source: Source, name: str, indices: np.ndarray) -> _Part:
        """The split `name` of a source."""
        images, labels = source.images, source.labels
        if name == "test" and source.test_images is not None and source.test_labels is not None:
            images, labels = source.test_images, source.test_labels
        index = indices[interleave(labels[indices])].astype(np.int64)
        return cls(images, index, labels[index], index)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.places), *self.images.shape[1:])

    def chunks(self) -> Iterator[np.ndarray]:
        """The images in their order, some MB at a time."""
        step = max(1, _CHUNK // max(1, self.images[:1].nbytes))
        for start in range(0, len(self.places), step):
            yield np.ascontiguousarray(self.images[self.places[start:start + step]])


class _Moments:
    """Mean and standard deviation per channel, from the counts of each value: whole numbers, so exact and lean."""

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._counts: np.ndarray | None = None

    def add(self, images: np.ndarray) -> None:
        """Count the values of uint8 images (N, C, H, W)."""
        # bincount makes 64-bit numbers of what it counts: of a chunk that is little.
        counts = np.stack([np.bincount(images[:, channel].reshape(-1), minlength=256)
                           for channel in range(images.shape[1])])
        self._counts = counts if self._counts is None else self._counts + counts

    def result(self) -> tuple[list[float], list[float]]:
        """(means, standard deviations), in [0, 1]."""
        values = np.arange(256) / self._levels
        shares = [] if self._counts is None else [counts / counts.sum() for counts in self._counts]
        means = [float(share @ values) for share in shares]
        return means, [float(np.sqrt(share @ (values - mean) ** 2)) for share, mean in zip(shares, means)]


class _Fingerprint:
    """SHA-256 of levels, classes and every split, added in the order of `SPLITS`."""

    def __init__(self, levels: int, classes: tuple[str, ...]) -> None:
        self._digest = hashlib.sha256(json.dumps([levels, list(classes)]).encode())

    def add(self, name: str, part: _Part, seen: Callable[[np.ndarray], None] | None = None) -> Iterator[np.ndarray]:
        """The images of the split in chunks, each of which `seen` gets first; the split is added at the end."""
        self._head(name, "images", part.images.dtype, part.shape)
        for chunk in part.chunks():
            self._digest.update(chunk.data)
            if seen is not None:
                seen(chunk)
            yield chunk
        for key, array in (("labels", part.labels), ("index", part.index)):
            self._head(name, key, array.dtype, array.shape)
            self._digest.update(np.ascontiguousarray(array).data)

    def result(self) -> str:
        """In hexadecimal digits."""
        return self._digest.hexdigest()

    def _head(self, name: str, key: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._digest.update(json.dumps([name, key, str(dtype), shape]).encode())


def _save(path: Path, part: _Part, chunks: Iterable[np.ndarray]) -> None:
    """The split as safetensors, to the byte as the library writes it: that one wants all the images in memory twice."""
    tensors, place = {}, 0
    for key, kind, shape, size in (("index", "I64", part.index.shape, part.index.nbytes),
                                   ("labels", "I64", part.labels.shape, part.labels.nbytes),
                                   ("images", "U8", part.shape, math.prod(part.shape))):
        tensors[key] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    header = json.dumps(tensors, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for array in (part.index, part.labels):
            stream.write(np.ascontiguousarray(array, dtype="<i8").data)
        for chunk in chunks:
            stream.write(chunk.data)
