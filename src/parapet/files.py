"""Files that are whole or absent: written beside their final name, then renamed (POSIX `rename(2)`)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parapet.errors import InputError
from parapet.plain_json import NotPlain, loads


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        _flush_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    partial.chmod(0o755)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_to_replace(path: Path, kept: Iterable[Path], marks: Iterable[str]) -> None:
    """Raise InputError where putting a new folder at `path` would delete what is not this step's to delete.

    That is: any of `kept`, and a folder with files but without one of the `marks` that the step leaves in its own.
    """
    place = path.resolve()
    for other in kept:
        if place == other.resolve() or place in other.resolve().parents:
            raise InputError(f"{path} would be replaced, and {other} lies in it; give a folder of its own with --out.")
    if path.is_dir() and any(path.iterdir()) and not any(found for mark in marks for found in path.glob(mark)):
        raise InputError(f"{path} holds files that are not from this command, and would be replaced; give another "
                         "folder with --out, or empty that one.")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN, no Infinity), atomically, with a final newline."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises NotPlain, an InputError and a ValueError, where it holds no plain JSON."""
    try:
        return loads(path.read_bytes())
    except NotPlain as error:
        raise NotPlain(f"{path} is no JSON that can be read ({error}); put it back, or run again what wrote it."
                       ) from None


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a value made of dicts, lists, strings, numbers and None."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_digest(path: Path, algorithm: Callable[..., Any] = hashlib.sha256) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
