"""The benchmarks of what a search costs beside its trainings, at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.search import overhead, sharing, split
from parapet import schemas
from parapet.config import Params, parse
from parapet.store import archive
from tests.steps.tiny import TINY


def test_the_archive_of_the_formula_is_as_a_real_one(tmp_path: Path) -> None:
    overhead.grown(tmp_path / "search", overhead.settings("rungs"), 300)
    records = archive.read(tmp_path / "search/archive.jsonl")
    assert 250 <= len(records) <= 320
    for record in records[:40]:
        schemas.validate("archive_record", record)
    rungs = [sum(record["fidelity"]["rung"] == rung for record in records) for rung in range(3)]
    assert rungs[0] > 2 * rungs[1] > 4 * rungs[2] > 0


@pytest.mark.parametrize("name", overhead.SETTINGS)
def test_a_candidate_costs_the_search_little(name: str) -> None:
    found = overhead.at(100, name)
    assert 0 < found["milliseconds"] < 200 and found["read"] < 1


def test_the_report_says_whether_the_limits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(overhead, "SETTINGS", {"plain": {}})
    for limit, kept in ((1e9, True), (0.0, False)):
        monkeypatch.setattr(overhead, "LIMIT_MS", limit)
        assert overhead.report([50], said.append) is kept
    assert said[0].startswith("plain: ") and "of the processor) at 50 (limit" in said[0]


def test_a_real_search_is_watched(tmp_path: Path, digits_folder: Path) -> None:
    (tmp_path / "params.yaml").write_text(json.dumps({**TINY, "device": "cpu"}))
    found = overhead.shares(tmp_path / "params.yaml", digits_folder)
    assert found["rounds"] >= 2 and 0 < found["start"] < 1
    assert 0 < found["cpu"] < 0.5 and 0 <= found["between"] < 0.5 and 0 <= found["waiting"] < 1


@pytest.mark.slow
def test_the_split_of_two_cores_runs(digits_folder: Path) -> None:
    said: list[str] = []
    ratio = split.compare(digits_folder, said.append, repeats=1, population=2, generations=1, epochs=1)
    assert ratio > 0 and said[-1] == f"against the best single worker: {ratio:.2f} times as fast; aim: at least 1.4"


def test_sharing_runs_on_the_cpu_and_says_that_it_is_no_gpu(digits_folder: Path) -> None:
    said: list[str] = []
    params = parse(Params, {"training": {"epochs": 1}, "search": {"space": {"backbone": ["plain"], "width": [4]}}})
    found = sharing.compare(params, digits_folder, "cpu", said.append, most=2, steps=3)
    assert set(found) == {"plain"} and found["plain"][0] in (1, 2)
    assert said[0] == "not run on a GPU: these are processes that share the CPU"
    assert "candidates an hour with" in said[-1]
