"""A sample of each part of the fuzzing, and that it sees what it is there to see."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from parapet.errors import InputError
from tests.fuzz import supervisor
from tests.fuzz.__main__ import main
from tests.fuzz.child import outcome_of
from tests.fuzz.part import Part, case, demand
from tests.fuzz.parts import PARTS, WHOLE, make

# Cases of each part that take about a second; what needs Kubeflow or exports takes longer to begin.
SAMPLE = {"params": 60, "recipes": 60, "set": 100, "wishes": 200, "archive": 40, "json": 80, "safetensors": 40,
          "npz": 60, "genomes": 20, "steps": 2}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_each_part_ends_well(name: str, tmp_path: Path) -> None:
    part = make(name, tmp_path)
    found = [(number, *outcome_of(part, case(part, name, 1, number))) for number in range(SAMPLE[name])]
    assert [end for end in found if end[1] not in ("accepted", "refused")] == []
    assert {outcome for _, outcome, _ in found} <= {"accepted", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*PARTS} - {*SAMPLE}))
def test_a_sample_of_what_takes_long_to_begin(name: str) -> None:
    assert supervisor.run(name, 1, 0, 5).wrong == []


def test_a_case_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    first, second = make("wishes", tmp_path / "a"), make("wishes", tmp_path / "b")
    assert [case(first, "wishes", 3, number) for number in range(50)] == [
        case(second, "wishes", 3, number) for number in reversed(range(50))][::-1]
    assert WHOLE >= 100_000


class _Planted(Part):
    """Does what the case says."""

    def make(self, chance: random.Random) -> bytes:
        return chance.choice((b"fine", b"refuse", b"long", b"lines", b"fail", b"nonsense", b"memory"))

    def check(self, content: bytes) -> None:
        if content == b"hang":
            while True:
                time.process_time()
        if content == b"memory":
            raise MemoryError
        if content == b"fail":
            raise KeyError("x")
        demand(content != b"nonsense", "nonsense was accepted")
        if content != b"fine":
            raise InputError({"refuse": "no.", "long": "x" * 5000, "lines": "one\ntwo"}[content.decode()])


@pytest.mark.parametrize(("content", "outcome"), [
    (b"fine", "accepted"), (b"refuse", "refused"), (b"long", "traceback"), (b"lines", "traceback"),
    (b"fail", "traceback"), (b"nonsense", "nonsense"), (b"memory", "memory")])
def test_each_end_is_told_apart(tmp_path: Path, content: bytes, outcome: str) -> None:
    assert outcome_of(_Planted(tmp_path), content)[0] == outcome


def test_a_part_prints_its_counts_and_a_bad_case_is_kept_and_replayed(tmp_path: Path, capsys) -> None:
    assert main(["--part", "wishes", "--cases", "5", "--seed", "2", "--out", str(tmp_path)]) == 0
    heading, row, end = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["part", "seed", "cases"] and row.split()[:3] == ["wishes", "2", "5"]
    assert end == "5 cases, 0 of them ended badly."
    (tmp_path / "wishes-0-1.case").write_bytes(b"knee")
    assert main(["--replay", str(tmp_path / "wishes-0-1.case")]) == 0
    assert "accepted" in capsys.readouterr().out
