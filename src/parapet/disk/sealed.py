"""JSON files that contain the SHA-256 of their own content and of files in the same folder, so that changes are found.

This detects a file that is not the one that was measured: truncated by a full disk, damaged, edited by hand, or copied
from another run. It is not a signature: anyone who can write the files can also write new digests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from parapet.disk.files import digest, file_digest, is_special, write_json
from parapet.disk.plain_json import NotPlain, loads
from parapet.errors import InputError
from parapet.quoting import quote

CHECKSUM = "checksum"
# The file that `seal_folder` writes.
DIGESTS = "digests.json"
SCHEMA_VERSION = 1
# Nanoseconds; the resolution of file timestamps may be coarser than the time between two writes.
_TICK = 1_000_000_000


class Damaged(ValueError):
    """A file does not hold what was written; the message gives the reason in a few words, for use in parentheses."""


def write(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """Write the JSON object with its checksum, atomically; returns the object as `look` will return it."""
    content = {name: item for name, item in json.loads(json.dumps(dict(value), allow_nan=False)).items()
               if name != CHECKSUM}
    sealed = {**content, CHECKSUM: digest(content)}
    write_json(path, sealed)
    return sealed


def look(path: Path) -> dict[str, Any]:
    """The object at `path`, checksum included. Raises Damaged, and FileNotFoundError where there is no file."""
    if is_special(path):
        raise Damaged("it is a folder or a pipe")
    try:
        content = path.read_bytes()
        value = loads(content)
    except NotPlain:
        raise Damaged("it is no JSON" if content.strip(b"\0 \n") else "it is empty") from None
    if not isinstance(value, dict):
        raise Damaged("it holds no JSON object")
    if CHECKSUM not in value:
        raise Damaged("it has no checksum")
    if digest({name: item for name, item in value.items() if name != CHECKSUM}) != value[CHECKSUM]:
        raise Damaged("its checksum does not fit")
    return value


def read(path: Path, again: str, needed: Mapping[str, type | tuple[type, ...]] | None = None, *,
         version: int | None = None) -> dict[str, Any]:
    """The object at `path`, with at least the fields `needed`, of the given types, and with this schema `version`.

    Raises InputError where it is missing, damaged or of another version; its sentence ends with the advice `again`.
    """
    try:
        value = look(path)
        if version is None or value.get("schema_version") == version:
            check_fields(value, needed or {})
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {again}.") from None
    except Damaged as error:
        raise InputError(f"{path} is damaged ({error}); {again}.") from None
    if version is not None and value.get("schema_version") != version:
        raise InputError(f"{path} has schema version {quote(value.get('schema_version'))}, and this Parapet reads "
                         f"version {version}; {again}.")
    return value


def check_fields(value: Mapping[str, Any], needed: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raise Damaged where a field is missing or of another type."""
    absent = [name for name in needed if name not in value]
    if absent:
        raise Damaged(f"{', '.join(absent)} missing")
    odd = [name for name, kind in needed.items() if not isinstance(value[name], kind)]
    if odd:
        raise Damaged(f"{', '.join(odd)} of the wrong kind")


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) by name of the files `names` in `folder`. Raises OSError."""
    return {name: file_digest(folder / name) for name in names}


def seal_folder(folder: Path, **about: Any) -> None:
    """Write digests.json in `folder`: `about`, and the SHA-256 of every file in it and its subfolders."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                   if path.is_file() and path != folder / DIGESTS)
    write(folder / DIGESTS, {"schema_version": SCHEMA_VERSION, **about, "files": digests(folder, names)})


def digest_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; cached in this process for a file that does not change.

    A file counts as unchanged where device, inode, size and times are the same. Raises OSError.
    """
    status = path.stat()
    identity = (str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns,
                status.st_ctime_ns)
    # Two changes within one tick of the file system's clock have the same timestamp.
    recent = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _TICK
    return file_digest(path) if recent else _digest_of(*identity)


@lru_cache(maxsize=4096)
def _digest_of(path: str, *identity: int) -> str:
    return file_digest(Path(path))


def problem(folder: Path, files: Mapping[str, str]) -> str | None:
    """A few words about the first of `files` (name to SHA-256) in `folder` that is missing or different; else None."""
    for name, expected in files.items():
        if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            return f"{quote(name)} names no file in it"
        try:
            found = digest_of(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found != expected:
            return f"{name} is not what was written: its SHA-256 is {found[:12]} instead of {str(expected)[:12]}"
    return None


class SealedFolder:
    """A folder with digests.json; every file is verified before it is read.

    `about` is the content of digests.json. Methods raise InputError, which ends with the advice `again`, where a file
    is missing, damaged or not listed.
    """

    def __init__(self, folder: Path, again: str, needed: Mapping[str, type | tuple[type, ...]] | None = None) -> None:
        self.folder, self.again = folder, again
        self.about = read(folder / DIGESTS, again, {"files": dict, **(needed or {})}, version=SCHEMA_VERSION)
        self.files: dict[str, str] = self.about["files"]

    def path(self, name: str) -> Path:
        """The path of the file `name`, after its digest was verified."""
        path = self.folder / name
        if name not in self.files:
            raise InputError(f"{path} is not among the files that {self.folder / DIGESTS} lists; {self.again}.")
        if not path.is_file():
            raise InputError(f"{path} does not exist; {self.again}.")
        if (found := digest_of(path)) != self.files[name]:
            raise InputError(f"{path} is damaged, or not the file that belongs here (its SHA-256 is {found[:12]} "
                             f"instead of {str(self.files[name])[:12]}); {self.again}.")
        return path

    def json(self, name: str, needed: Mapping[str, type | tuple[type, ...]] | None = None) -> dict[str, Any]:
        """The JSON object in the file `name`, which also contains its own checksum."""
        return read(self.path(name), self.again, needed)
