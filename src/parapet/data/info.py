"""Reads dataset.json of a prepared data set and checks the digests of its files; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from parapet.disk import sealed
from parapet.errors import InputError
from parapet.quoting import quote

# Version 2 added `files`, the SHA-256 of each split's file, and `checksum`, that of dataset.json itself.
SCHEMA_VERSION = 2
FIELDS = {"name": str, "classes": list, "levels": int, "image_shape": list, "images": dict, "mean": list, "std": list,
          "fingerprint": str, "files": dict}


def read_info(folder: Path) -> dict[str, Any]:
    """dataset.json of a prepared data set, with at least schema_version and FIELDS.

    classes: list of names. image_shape: [C, H, W]. images: number of images by split. levels: pixel / levels lies in
    [0, 1]. mean, std: of the training images, per channel, in [0, 1]. fingerprint: SHA-256 (hex) of all the data.
    files: SHA-256 (hex) of the splits' files by name.
    Raises InputError where it is missing, damaged or of another schema version.
    """
    path = folder / "dataset.json"
    if not path.exists():
        raise InputError(f"{folder} holds no prepared data set ({path} is missing); {prepare(folder)}.")
    try:
        return _checked(path, folder)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct its permissions, or {prepare(folder)}."
                         ) from None


def check_files(folder: Path, info: dict[str, Any], names: Iterable[str] | None = None) -> None:
    """Raise InputError unless the files `names`, by default all, have the digests in `info`.

    A file is read in blocks, and again in the same process only after it has changed.
    """
    for name in info["files"] if names is None else names:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing; {prepare(folder)}.")
        try:
            found = sealed.digest_of(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); correct its permissions, or {prepare(folder)}."
                             ) from None
        if found != info["files"].get(name):
            raise InputError(f"{path} is damaged, or not of this data set (its SHA-256 is {found[:12]} instead of "
                             f"{str(info['files'].get(name))[:12]}); {prepare(folder)}.")


def prepare(folder: Path) -> str:
    """What to do about a prepared folder that is missing or damaged, as the end of a sentence."""
    return f"run `parapet data_prep --out {folder}`"


def _checked(path: Path, folder: Path) -> dict[str, Any]:
    try:
        info = sealed.look(path)
    except sealed.Damaged as error:
        # Version 1 had no checksum.
        raise InputError(f"{path} is damaged, or from another version of Parapet ({error}); {prepare(folder)}."
                         ) from None
    if info.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path} has schema_version {quote(info.get('schema_version'))}, and this Parapet reads "
                         f"{SCHEMA_VERSION}; {prepare(folder)}.")
    try:
        sealed.check_fields(info, FIELDS)
    except sealed.Damaged as error:
        raise InputError(f"{path} is damaged ({error}); {prepare(folder)}.") from None
    return info
