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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from parapet import files, sealed
from parapet.data.images import Images
from parapet.data.info import SCHEMA_VERSION, check_files, prepare, read_info
from parapet.data.splits import SPLITS, interleave
from parapet.errors import InputError, WorkError, is_closed
from parapet.quoting import quote

if TYPE_CHECKING:
    from parapet.data.sources import Source


def write(folder: Path, source: Source, indices: dict[str, np.ndarray]) -> Dataset:
    """Write the prepared folder, whole or not at all, and open it.

    indices: positions for each of train, validation and test, as `parapet.data.split` gives them; they are written
    in an order that interleaves the classes, so that the first k images of a split are a stratified part of it.
    Raises InputError where the folder may not be written, WorkError where the disk is full.
    """
    files.refuse_to_replace(folder, [], _marks(folder))
    arrays = {name: _arrays(source, name, indices[name]) for name in SPLITS}
    mean, std = _moments(arrays["train"]["images"], source.levels)
    info = {"schema_version": SCHEMA_VERSION, "name": source.name, "classes": list(source.classes),
            "levels": source.levels, "image_shape": list(source.images.shape[1:]),
            "images": {name: len(arrays[name]["labels"]) for name in SPLITS}, "mean": mean, "std": std,
            "fingerprint": _fingerprint(arrays, source.levels, source.classes)}
    try:
        with files.replacing_folder(folder) as partial:
            for name in SPLITS:
                save_file(arrays[name], partial / f"{name}.safetensors")
            names = [f"{name}.safetensors" for name in SPLITS]
            sealed.write(partial / "dataset.json", {**info, "files": sealed.digests(partial, names)})
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        if is_closed(error):
            raise InputError(f"{folder} cannot be written ({why}); mend the permissions of its folder, or give another "
                             "folder with --out.") from None
        raise WorkError(f"{folder} cannot be written ({why}); make room, then {prepare(folder)}.") from None
    return Dataset.open(folder)


def fingerprint_of(source: Source, indices: dict[str, np.ndarray]) -> str:
    """The fingerprint that `write` would give these splits."""
    return _fingerprint({name: _arrays(source, name, indices[name]) for name in SPLITS}, source.levels, source.classes)


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
            raise InputError(f"{self._file(name)} is damaged ({error}); {prepare(self.folder)}.") from None
        return Images(part["images"], part["labels"], part["index"], self.levels)

    def verify(self) -> None:
        """Recompute the fingerprint from the files, all in memory. Raises InputError where it differs."""
        arrays = {name: {"images": part.images.numpy(), "labels": part.labels.numpy(), "index": part.index.numpy()}
                  for name, part in ((name, self.split(name)) for name in SPLITS)}
        found = _fingerprint(arrays, self.levels, self.classes)
        if found != self.fingerprint:
            raise InputError(f"{self.folder} is damaged: its fingerprint is {found[:12]}..., and dataset.json says "
                             f"{self.fingerprint[:12]}...; {prepare(self.folder)}.")

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def _marks(folder: Path) -> list[str]:
    """What tells a folder of `write`: its description, and where that is lost, nothing but the splits."""
    splits = {f"{name}.safetensors" for name in SPLITS}
    only_splits = folder.is_dir() and {path.name for path in folder.iterdir()} <= splits
    return ["dataset.json", *(splits if only_splits else ())]


def _arrays(source: Source, name: str, indices: np.ndarray) -> dict[str, np.ndarray]:
    published = name == "test" and source.test_images is not None
    images, labels = (source.test_images, source.test_labels) if published else (source.images, source.labels)
    index = indices[interleave(labels[indices])].astype(np.int64)
    return {"images": np.ascontiguousarray(images[index]), "labels": labels[index], "index": index}


def _moments(images: np.ndarray, levels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, from the counts of each value: whole numbers, so exact and lean."""
    values = np.arange(256) / levels
    shares = [np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(images.shape[1])]
    shares = [counts / counts.sum() for counts in shares]
    means = [float(share @ values) for share in shares]
    return means, [float(np.sqrt(share @ (values - mean) ** 2)) for share, mean in zip(shares, means)]


def _fingerprint(arrays: dict[str, dict[str, np.ndarray]], levels: int, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps([levels, list(classes)]).encode())
    for name in SPLITS:
        for key in ("images", "labels", "index"):
            array = arrays[name][key]
            digest.update(json.dumps([name, key, str(array.dtype), array.shape]).encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
