"""The prepared data set: a folder of three splits with its fingerprint.

    train.safetensors, validation.safetensors, test.safetensors
        images  uint8 (N, C, H, W); pixel / levels lies in [0, 1]
        labels  int64 (N,), the position in `classes`
        index   int64 (N,), the position in the source (of test images: in its published test split, if it has one)
    dataset.json
        schema_version, name, classes, levels, image_shape, images per split, mean and std, fingerprint, SHA-256 of
        each file, checksum of itself

Reading needs torch, numpy and safetensors only, which is what a GPU machine for training has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from parapet.data.images import Images
from parapet.data.info import SCHEMA_VERSION, check_files, prepare, read_info
from parapet.data.split_files import Fingerprint, Part, fingerprint, save
from parapet.data.splits import SPLITS
from parapet.disk import files, replacement, sealed
from parapet.errors import InputError, WorkError, is_closed, is_no_place, is_of_the_machine, no_place
from parapet.quoting import quote

if TYPE_CHECKING:
    from parapet.data.sources import Source

_FILES = tuple(f"{name}.safetensors" for name in SPLITS)


def write(folder: Path, source: Source, indices: dict[str, np.ndarray]) -> Dataset:
    """Write the prepared folder atomically, and open it.

    indices: positions for each of train, validation and test, as `parapet.data.split` gives them. They are written
    in an order that interleaves the classes, so that the first k images of a split are a stratified part of it. In
    addition to the source this takes some MB of memory, whatever the number of images.
    Raises InputError where the folder may not be written or holds files of another kind, WorkError where the disk is
    full.
    """
    check_place(folder)
    parts = {name: Part.of(source, name, indices[name]) for name in SPLITS}
    digest = Fingerprint(source.levels, source.classes)
    try:
        with files.replacing_folder(folder) as partial:
            for name, part in parts.items():
                save(partial / f"{name}.safetensors", part, digest.add(name, part))
            mean, std = parts["train"].moments(source.levels)
            info = {"schema_version": SCHEMA_VERSION, "name": source.name, "classes": list(source.classes),
                    "levels": source.levels, "image_shape": list(source.images.shape[1:]),
                    "images": {name: len(part.labels) for name, part in parts.items()}, "mean": mean, "std": std,
                    "fingerprint": digest.hexdigest()}
            sealed.write(partial / "dataset.json", {**info, "files": sealed.digests(partial, _FILES)})
    except OSError as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        if is_no_place(error):
            raise no_place(error) from None
        if is_closed(error):
            raise InputError(f"{folder} cannot be written ({why}); correct the permissions of its folder, or give "
                             "another folder with --out.") from None
        raise WorkError(f"{folder} cannot be written ({why}); free some space, then {prepare(folder)}.") from None
    return Dataset.open(folder)


def fingerprint_of(source: Source, indices: dict[str, np.ndarray]) -> str:
    """The fingerprint that `write` would give these splits."""
    return fingerprint(source.levels, source.classes, (Part.of(source, name, indices[name]) for name in SPLITS))


@dataclass(frozen=True)
class Dataset:
    """The description of a prepared folder; `split` reads the images.

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
    # The content of dataset.json.
    info: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Read dataset.json. Raises InputError where it, or the file of a split, is missing or damaged."""
        folder = Path(folder)
        info = read_info(folder)
        dataset = cls(folder, info["name"], tuple(info["classes"]), info["levels"], tuple(info["image_shape"]),
                      info["images"], tuple(info["mean"]), tuple(info["std"]), info["fingerprint"], info)
        for name in SPLITS:
            if not dataset._file(name).is_file():
                raise InputError(f"{dataset._file(name)} is missing; {prepare(folder)}.")
        return dataset

    def split(self, name: str, device: str | torch.device = "cpu", limit: int | None = None) -> Images:
        """The images of `train`, `validation` or `test` on `device`, at most `limit` of them.

        The digest of the file is checked first. With a limit the images are a stratified part of the split, and the
        part for a smaller limit is the beginning of the part for a larger one.
        Raises InputError for an unknown split and for a damaged file.
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
                    raise InputError(f"{self._file(name)} does not have the shape that dataset.json gives; "
                                     f"{prepare(self.folder)}.")
                part = {key: stored.get_slice(key)[:count].to(device) for key in ("images", "labels", "index")}
        except (SafetensorError, OSError) as error:
            if is_of_the_machine(error):
                raise
            raise InputError(f"{self._file(name)} is damaged ({error}); {prepare(self.folder)}.") from None
        return Images(part["images"], part["labels"], part["index"], self.levels)

    def verify(self) -> None:
        """Recompute the fingerprint from the files, one split in memory at a time. Raises InputError if it differs."""
        found = fingerprint(self.levels, self.classes, (
            Part(stored.images.numpy(), np.arange(len(stored)), stored.labels.numpy(), stored.index.numpy())
            for stored in map(self.split, SPLITS)))
        if found != self.fingerprint:
            raise InputError(f"{self.folder} is damaged: its fingerprint is {found[:12]}..., and dataset.json says "
                             f"{self.fingerprint[:12]}...; {prepare(self.folder)}.")

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def check_place(folder: Path) -> None:
    """Raise InputError where `write` would delete files that do not belong to a prepared data set."""
    replacement.refuse_to_replace(folder, [], _marks(folder), ["dataset.json", *_FILES])


def _marks(folder: Path) -> list[str]:
    """Files by which a folder of `write` is recognised: dataset.json, and the splits where there is nothing else."""
    only_splits = folder.is_dir() and {path.name for path in folder.iterdir()} <= {*_FILES}
    return ["dataset.json", *(_FILES if only_splits else ())]
