"""Folders that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def unchanged(folder: Path) -> Iterator[Path]:
    """The value of a fixture: `folder`, which tests may read and copy; AssertionError where one of them changed it."""
    before = _files(folder)
    yield folder
    after = _files(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, f"a test changed files that all tests share: {changed[:5]}"


def _files(folder: Path) -> dict[str, int]:
    """When each file of `folder` was last changed, in nanoseconds."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
