"""One split on its way from the source to its file: chunks of images, fingerprint, mean and standard deviation.

The images are copied some MB at a time, so that preparing a data set needs no second copy of it in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parapet.data.splits import SPLITS, interleave

if TYPE_CHECKING:
    from parapet.data.sources import Source

# Bytes of images that are copied at a time; counting their values takes eight times as many.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """One split, not yet copied out of its source: the images at `positions` (N,) of `images` (M, C, H, W), with the
    `labels` (N,) and the `index` (N,) that will be stored."""

    images: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, source: Source, name: str, indices: np.ndarray) -> Part:
        """The split `name` of a source, with the classes interleaved."""
        images, labels = source.images, source.labels
        if name == "test" and source.test_images is not None and source.test_labels is not None:
            images, labels = source.test_images, source.test_labels
        index = indices[interleave(labels[indices])].astype(np.int64)
        return cls(images, index, labels[index], index)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.positions), *self.images.shape[1:])

    def chunks(self) -> Iterator[np.ndarray]:
        """The images in their order, some MB at a time."""
        step = max(1, _CHUNK // max(1, self.images[:1].nbytes))
        for start in range(0, len(self.positions), step):
            yield np.ascontiguousarray(self.images[self.positions[start:start + step]])

    def moments(self, levels: int) -> tuple[list[float], list[float]]:
        """(means, standard deviations) per channel, in [0, 1]; exact, from the number of pixels of each value."""
        counts = np.zeros((self.images.shape[1], 256), dtype=np.int64)
        for chunk in self.chunks():
            for channel, row in enumerate(counts):
                row += np.bincount(chunk[:, channel].reshape(-1), minlength=256)
        values, shares = np.arange(256) / levels, [row / row.sum() for row in counts]
        means = [float(share @ values) for share in shares]
        return means, [float(np.sqrt(share @ (values - mean) ** 2)) for share, mean in zip(shares, means)]


class Fingerprint:
    """SHA-256 of levels, classes and every split; splits are added in the order of `SPLITS`."""

    def __init__(self, levels: int, classes: tuple[str, ...]) -> None:
        self._digest = hashlib.sha256(json.dumps([levels, list(classes)]).encode())

    def add(self, name: str, part: Part) -> Iterator[np.ndarray]:
        """Add a split. Gives its images in chunks; the split is added completely when the last one was taken."""
        self._add_header(name, "images", part.images.dtype, part.shape)
        for chunk in part.chunks():
            self._digest.update(chunk.data)
            yield chunk
        for key, array in (("labels", part.labels), ("index", part.index)):
            self._add_header(name, key, array.dtype, array.shape)
            self._digest.update(np.ascontiguousarray(array).data)

    def hexdigest(self) -> str:
        """The fingerprint in hexadecimal digits."""
        return self._digest.hexdigest()

    def _add_header(self, name: str, key: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._digest.update(json.dumps([name, key, str(dtype), shape]).encode())


def fingerprint(levels: int, classes: tuple[str, ...], parts: Iterable[Part]) -> str:
    """The fingerprint of the splits `parts`, which come in the order of `SPLITS`."""
    digest = Fingerprint(levels, classes)
    for name, part in zip(SPLITS, parts):
        for _ in digest.add(name, part):
            pass
    return digest.hexdigest()


def save(path: Path, part: Part, chunks: Iterable[np.ndarray]) -> None:
    """Write the split as safetensors, with `chunks` as its images.

    The bytes are those that safetensors' own `save_file` writes. That one needs all images in memory twice.
    """
    tensors, start = {}, 0
    for key, dtype, shape, size in (("index", "I64", part.index.shape, part.index.nbytes),
                                    ("labels", "I64", part.labels.shape, part.labels.nbytes),
                                    ("images", "U8", part.shape, math.prod(part.shape))):
        tensors[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    header = json.dumps(tensors, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for array in (part.index, part.labels):
            stream.write(np.ascontiguousarray(array, dtype="<i8").data)
        for chunk in chunks:
            stream.write(chunk.data)
