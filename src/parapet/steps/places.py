"""Checks, before anything is computed, that a run will not delete files that no run wrote."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from parapet.disk.replacement import refuse_foreign
from parapet.errors import InputError

# The folders in the output folder that a run replaces.
FOLDERS = ("dataset", "search", "evaluation", "onnx", "report", "plots")


def check(out: Path, cache: Path | None = None, *, folders: Collection[str] = FOLDERS) -> None:
    """Raise InputError where a run into `out`, which replaces `folders`, would delete files that no run wrote, or its
    own `cache`.

    Each step repeats this check for its own folder before it replaces that folder.
    """
    from parapet.data import dataset
    from parapet.steps import front, full_evaluation, report, search

    if cache is not None:
        _check_cache(out, cache, folders)
    if "dataset" in folders:
        dataset.check_place(out / "dataset")
    search.check_place(out / "search", [])
    full_evaluation.check_place(out / "evaluation", [])
    front.check_place(out)
    report.check_place(out)


def check_scratch(folder: Path, own: Iterable[str]) -> None:
    """Raise InputError where emptying `folder` would delete a file that matches none of the patterns `own`."""
    refuse_foreign(folder, own)


def _check_cache(out: Path, cache: Path, folders: Collection[str]) -> None:
    place = Path(os.path.realpath(cache))
    for folder in folders:
        if Path(os.path.realpath(out / folder)) in (place, *place.parents):
            raise InputError(f"{out / folder} would be replaced, and the cache {cache} lies in it; give another folder "
                             "with --cache.")
