"""A small search with everything on (rungs, inherited weights, second evaluations, two seeds), and what kills leave."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from parapet.disk.files import read_json
from parapet.store import archive
from tests.steps.tiny import TINY

RUNGS = {**TINY, "search": {
    "population": 4, "generations": 2, "rungs": [{"epochs": 1, "data_share": 0.5, "crafting": "n_fgsm"}, {"epochs": 2}],
    "reduction": 2, "warm_start": True, "evaluations": 2, "final_seeds": 2, "workers": 1, "attempts": 10,
    "space": {"width": [4, 6], "depth": [1], "denoiser": ["none"], "input_filter": ["none"], "backbone": ["plain"]}},
    "training": {"epochs": 4, "validate_every": 4, "checkpoint_seconds": 0}}


def command(folder: Path, dataset: Path, values: dict[str, Any] | None = None) -> list[str]:
    """`parapet search` with everything it makes below `folder`."""
    params = folder / "params.yaml"
    params.write_text(json.dumps(values or RUNGS))
    return [sys.executable, "-m", "parapet.cli", "search", "--params", str(params), "--dataset", str(dataset),
            "--out", str(folder / "search"), "--cache", str(folder / "cache")]


def trainings(folder: Path) -> dict[str, float]:
    """When each finished training began, by its folder."""
    return {path.parent.name: read_json(path)["started"]
            for path in (folder / "cache/candidates").glob("*/training.json")}


def journal(folder: Path) -> Path:
    """The search's own archive, of every line."""
    path, = (folder / "cache/searches").glob("*/archive.jsonl")
    return path


def lines(folder: Path) -> set[tuple[str, int, bool]]:
    """What distinguishes the lines of the archive."""
    return {(record["id"], record["looks"], record["final"]) for record in archive.read(journal(folder))}


def kill(number: int, *processes: int) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue
