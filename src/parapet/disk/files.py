"""Atomic writes of files and folders: written under a temporary name, then renamed (POSIX `rename(2)`)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from parapet.disk.plain_json import NotPlain, loads
from parapet.disk.replacement import refuse_file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` when the block ends without an error.

    Temporary files that a killed writer of `path` left are reused or removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(path, folder=False) as partial:
        yield partial
        partial.chmod(0o644)
        _flush_to_disk(partial)
        partial.replace(path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder in the same parent, which replaces `path` when the block ends without an error.

    Temporary folders that a killed writer of `path` left are reused or removed. Raises InputError where `path` is a
    file.
    """
    refuse_file(path)
    with scratch_folder(path) as partial:
        yield partial
        refuse_file(path)
        while not _placed(partial, path):
            pass


def _placed(partial: Path, path: Path) -> bool:
    """Replace the folder at `path`; False if another writer replaced it first, so that the caller must try again."""
    if not path.exists():
        return _moved(partial, path)
    # The old folder is renamed first and deleted later: a kill during a deletion would leave neither folder.
    with scratch_folder(path) as old:
        with suppress(FileNotFoundError):
            path.replace(old / path.name)
        try:
            return _moved(partial, path)
        except OSError:
            with suppress(OSError):
                (old / path.name).replace(path)
            raise


def _moved(partial: Path, path: Path) -> bool:
    """Rename the folder `partial` to `path`; False if `path` is a folder that is not empty."""
    try:
        partial.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder in the parent of `path`, and remove it at the end.

    Temporary folders that a killed writer of `path` left are reused or removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(path, folder=True) as partial:
        yield partial


@contextmanager
def _scratch(path: Path, *, folder: bool) -> Iterator[Path]:
    """An empty file or folder in the parent of `path` that only this process uses; removed at the end if still there.

    It is locked while it is in use (`flock(2)`), and the kernel releases the lock when the process ends. A file that
    can be locked is therefore not in use, and few names are needed: `.NAME.part`, and `.NAME.1.part` and so on for
    simultaneous writers. On a file system without locks the name is random, and a killed writer leaves its file.
    """
    number = 0
    try:
        while (descriptor := _taken(partial := _scratch_name(path, number), folder)) is None:
            number += 1
    except _NoLocksError:
        with _unlocked(path, folder) as partial:
            yield partial
        return
    try:
        while (later := _scratch_name(path, number := number + 1)).exists():
            if (free := _taken(later, later.is_dir())) is not None:
                _remove(later)
                os.close(free)
        yield partial
    finally:
        with suppress(FileNotFoundError):
            # Another writer may have created a new file under this name.
            if os.path.samestat(os.fstat(descriptor), partial.lstat()):
                _remove(partial)
        os.close(descriptor)


@contextmanager
def _unlocked(path: Path, folder: bool) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    partial.mkdir() if folder else partial.touch(0o600)
    try:
        yield partial
    finally:
        _remove(partial)


def _scratch_name(path: Path, number: int) -> Path:
    return path.with_name(f".{path.name}.{number}.part" if number else f".{path.name}.part")


def _taken(partial: Path, folder: bool) -> int | None:
    """The descriptor of the empty, locked file or folder `partial`; None where another process or user has it."""
    while True:
        try:
            if folder:
                partial.mkdir(mode=0o755, exist_ok=True)
                descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            else:
                descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            if not partial.parent.exists():
                raise
            continue  # its owner removed it at the same time
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return None  # a file instead of a folder, or a folder instead of a file
        except PermissionError:
            if partial.exists():
                return None  # it belongs to another user
            raise
        try:
            if not _locked(descriptor):
                os.close(descriptor)
                return None
            # Its owner may have renamed or removed it between opening and locking.
            if os.path.samestat(os.fstat(descriptor), partial.lstat()):
                if folder:
                    for left in partial.iterdir():
                        _remove(left)
                    partial.chmod(0o755)
                else:
                    os.ftruncate(descriptor, 0)
                return descriptor
        except FileNotFoundError:
            pass
        except _NoLocksError:
            os.close(descriptor)
            _remove(partial)
            raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _NoLocksError from error
    return True


class _NoLocksError(Exception):
    """The file system does not support locks."""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN, no Infinity), atomically, with a final newline."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def is_special(path: Path) -> bool:
    """Whether `path` is a folder, a pipe or a device instead of a file: reading it may never end."""
    return path.exists() and not path.is_file()


def is_endless(path: Path) -> bool:
    """Whether `path` is a pipe, a socket or a device instead of a file."""
    return is_special(path) and not path.is_dir()


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises NotPlain (an InputError and a ValueError) where it does not hold plain JSON."""
    if is_special(path):
        raise NotPlain(f"{path} is no file with JSON, but a folder or a pipe; put the file back, or run again what "
                       "wrote it.")
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
    """Hex digest of a file's bytes. Raises OSError, also for a pipe or a device, because reading it may never end."""
    if is_endless(path):
        raise OSError(errno.ESPIPE, "it is a pipe or a device, and no file", str(path))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
