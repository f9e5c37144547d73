"""What a whole run would delete in its folder that is not its own: told before anything is computed."""

from __future__ import annotations

from pathlib import Path


def check(out: Path, *kept: Path) -> None:
    """Raise InputError where a run into `out` would delete what no run left there, or any of the folders `kept`.

    Each step asks the same again about its own folder before it puts a new one there.
    """
    from parapet.data import dataset
    from parapet.steps import front, full_evaluation, report, search

    dataset.check_place(out / "dataset")
    search.check_place(out / "search", [*kept, out / "dataset"])
    full_evaluation.check_place(out / "evaluation", [*kept, out / "dataset", out / "search"])
    front.check_place(out)
    report.check_place(out)
