"""The files of the published data sets: their paths, checksums and addresses.

Names, MD5 checksums and addresses are the class attributes of torchvision's data sets, read when they are needed,
so that a newer torchvision provides newer mirrors. Paths follow torchvision's layout.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from parapet.catalogue.datasets import DATASETS
from parapet.disk import files
from parapet.errors import InputError
from parapet.quoting import quote

# The checksum that the authors published; it detects damage and is no protection against forgery.
md5 = partial(hashlib.md5, usedforsecurity=False)

# MD5 of the unpacked file by MD5 of its .gz: torchvision stores both and publishes no checksum of the unpacked ones.
# MNIST's are those of the unpacked published files, Fashion-MNIST's are the ones in common use.
UNPACKED_MD5 = {
    "f68b3c2dcbeaaa9fbdd348bbdeb94873": "6bbc9ace898e44ae57da46a324031adb",
    "d53e105ee54ea40749a09fcbcd1e9432": "a25bea736e30d166cdddb491f175f624",
    "9fb629c4189551a2d022fa330f9573f3": "2646ac647ad5339dbf082846283269ea",
    "ec29112dd5afa0611ce80d1b7f02629c": "27ae3e4e09519cfbb04c329615203637",
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "25c81989df183df01b3e8a0aad5dffbe": "9018921c3c673c538a1fc5bad174d6f9",
    "bef4ecab320f06d8554ea6380940ec79": "8181f5470baa50b63fa0f6fddb340f0a",
    "bb300cfdad3c16e7a12a480ee83cd310": "15d484375f8d13e6eb1aabb0c3f46965",
}


@dataclass(frozen=True)
class PublishedFile:
    """One file: its path below the data set's folder, its published MD5 (hex), the addresses that serve it."""

    path: str
    md5: str
    urls: tuple[str, ...] = ()

    def unpacked(self) -> PublishedFile | None:
        """The same file without `.gz`, where its checksum is known."""
        if not self.path.endswith(".gz") or self.md5 not in UNPACKED_MD5:
            return None
        return PublishedFile(self.path.removesuffix(".gz"), UNPACKED_MD5[self.md5])

    def is_whole(self, base: Path) -> bool:
        """Whether `base`/`path` exists and has the published checksum."""
        path = base / self.path
        return path.is_file() and files.file_digest(path, md5) == self.md5


@dataclass(frozen=True)
class Published:
    """The files of one data set, in the order in which its reader reads them.

    `archive` is the tar file with all of them, where they were published as one (CIFAR).
    """

    name: str
    files: tuple[PublishedFile, ...]
    archive: PublishedFile | None = None

    def present(self, base: Path) -> list[PublishedFile | None]:
        """For each file, what exists below `base`: the file itself, else its unpacked form, else None."""
        return [next((form for form in (file, file.unpacked()) if form and (base / form.path).is_file()), None)
                for file in self.files]

    def find(self, places: Sequence[Path]) -> Path | None:
        """The first of `places` that holds any of the files; None where no place does."""
        return next((place for place in places if any(self.present(place))), None)


def check_name(name: str) -> None:
    """Raise InputError, with the most similar known name, unless `name` is a data set that Parapet knows."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), DATASETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{quote(name)} is not a data set; {hint}Allowed: {', '.join(DATASETS)}.")


def places(name: str, roots: Sequence[Path]) -> list[Path]:
    """Folders that may hold the files of `name`, in order: for each root the subfolder `name`, then the root itself."""
    return [place for root in roots for place in (Path(root) / name, Path(root))]


def published(name: str) -> Published:
    """The published files of a data set; imports torchvision.

    Raises InputError for a data set that torchvision does not have: its addresses are not known.
    """
    from torchvision import datasets

    wanted = DATASETS[name].torchvision
    if wanted is None:
        raise InputError(f"{name} is not published by torchvision, so it cannot be fetched; its declaration reads it "
                         f"with {DATASETS[name].reader}.")
    kind = getattr(datasets, wanted)
    if hasattr(kind, "split_list"):
        return Published(name, tuple(PublishedFile(path, digest, (url,)) for url, path, digest in (
            kind.split_list[split] for split in ("train", "test"))))
    if hasattr(kind, "train_list"):
        parts = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        return Published(name, tuple(PublishedFile(f"{kind.base_folder}/{path}", digest) for path, digest in parts),
                         archive=PublishedFile(kind.filename, kind.tgz_md5, (kind.url,)))
    return Published(name, tuple(
        PublishedFile(f"{kind.__name__}/raw/{path}", digest, tuple(mirror + path for mirror in kind.mirrors))
        for path, digest in kind.resources))


def read_whole(path: Path, digest: str, algorithm: str, advice: str) -> bytes:
    """The content of a file whose digest by `algorithm` is `digest`.

    The bytes that were verified are the bytes returned, so the file cannot change in between.
    Raises InputError, which ends with `advice`, for a missing, unreadable or damaged file.
    """
    if files.is_endless(path):
        raise InputError(f"{path} is a pipe or a device, and no file; delete it, then {advice}.")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {advice}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct its permissions, or {advice}.") from None
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise InputError(f"{path} is damaged: its {algorithm} is {found[:12]}..., and {digest[:12]}... is right; "
                         f"delete it, then {advice}.")
    return content
