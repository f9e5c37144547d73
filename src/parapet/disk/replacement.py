"""Checks before a step replaces its output folder.

They prevent a wrong --out from deleting data. A step writes a new folder and renames it over the old one, so `--out ~`
or the folder of another command would lose all its files. Only files from the same step may be replaced.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from parapet.errors import InputError, told

# A glob for a candidate's id, for the patterns in `own`.
ID = "[0-9a-f]" * 12
# Files that file browsers create, and temporary files of a killed writer (`files.replacing`).
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", ".*.part")
_ELSEWHERE = "give another folder with --out, or move that file away"


def refuse_file(path: Path, cure: str = _ELSEWHERE) -> None:
    """Raise InputError where `path` exists and is not a folder; `cure` is the advice at the end of the sentence."""
    # Only one stat call: another writer may move the folder between two calls.
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    is_link = stat.S_ISLNK(mode)
    if not stat.S_ISDIR(mode) and not (is_link and path.is_dir()):
        kind = "a link that leads to no folder" if is_link else "a file and no folder"
        raise InputError(f"{path} is {kind}, and would be replaced by one; {cure}.")


def check_folder(path: Path, option: str = "--out") -> None:
    """Raise InputError where no folder can be created at `path`: it or an ancestor is a file, or its name is invalid.

    The sentence names that file, and the `option` with which to choose another folder.
    """
    for place in (path, *path.parents):
        try:
            if not stat.S_ISDIR(place.stat().st_mode):
                raise InputError(f"{place} is a file and no folder; give another folder with {option}, or move that "
                                 "file away.")
            return
        except FileNotFoundError:
            if place.is_symlink():
                raise InputError(f"{place} is a link to what does not exist; give another folder with {option}, or "
                                 "remove that link.") from None
        except NotADirectoryError:
            pass
        except OSError as error:
            if (sentence := told(error)) is None:
                raise
            raise sentence from None


def refuse_foreign(path: Path, own: Iterable[str], cure: str = _ELSEWHERE) -> None:
    """Raise InputError where a new folder at `path` would delete a file that matches none of the patterns `own`.

    A pattern is matched against the path relative to `path`, and its `*` also matches slashes. The sentence names the
    file and ends with the advice `cure`.
    """
    refuse_file(path, cure)
    patterns = [*own]
    for name in _files(path):
        if not any(fnmatchcase(name, pattern) for pattern in patterns) and not any(
                fnmatchcase(name.rpartition("/")[2], pattern) for pattern in _LITTER):
            raise InputError(f"{path / name} is not from this command, and would be deleted with the folder around it; "
                             f"{cure}.")


def refuse_to_replace(path: Path, kept: Iterable[Path], marks: Iterable[str], own: Iterable[str]) -> None:
    """Raise InputError where a new folder at `path` would delete something that this step may not delete.

    That is: one of `kept`; a file at `path`; a folder that is not empty and has none of the `marks` (globs) that the
    step leaves in its own folders; or a file that matches none of the patterns `own`.
    """
    refuse_file(path)
    # Path.resolve raises a RuntimeError for a link to itself.
    place = Path(os.path.realpath(path))
    for other in kept:
        if place in (there := Path(os.path.realpath(other)), *there.parents):
            raise InputError(f"{path} would be replaced, and {other} lies in it; give a folder of its own with --out.")
    if path.is_dir() and any(path.iterdir()) and not any(found for mark in marks for found in path.glob(mark)):
        raise InputError(f"{path} holds files that are not from this command, and would be replaced; give another "
                         "folder with --out, or empty that one.")
    refuse_foreign(path, own)


def _files(path: Path) -> Iterator[str]:
    """The relative paths of all files and links below `path`, sorted; links to folders are not followed."""
    for folder, folders, names in os.walk(path):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            yield Path(folder, name).relative_to(path).as_posix()
