"""The journal: append only, checksummed, a torn end dropped, damage told and never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.errors import InputError
from parapet.search import archive

RECORDS = [{"schema_version": 3, "id": f"{place:012x}", "value": place / 3, "text": "ü\n"} for place in range(5)]


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    archive.append(path, RECORDS[:2])
    archive.append(path, RECORDS[2:])
    assert archive.read(path) == RECORDS


def test_no_file_is_an_empty_archive(tmp_path: Path) -> None:
    assert archive.read(tmp_path / "none.jsonl") == []


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_torn_end_costs_the_torn_records_alone(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("archive") / "archive.jsonl"
    archive.append(path, RECORDS[:3])
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) - min(cut, len(whole))])
    survivors = archive.read(path)
    assert survivors == RECORDS[:len(survivors)]
    archive.append(path, RECORDS[3:])
    assert archive.read(path) == survivors + RECORDS[3:]


def test_damage_in_the_middle_is_told_and_the_file_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    archive.append(path, RECORDS)
    damaged = path.read_bytes().replace(b"0.3333", b"0.9333", 1)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged in line 2: its checksum does not fit"):
        archive.read(path)
    assert path.read_bytes() == damaged


def test_another_schema_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    archive.append(path, [{"schema_version": 1}])
    with pytest.raises(InputError, match="has schema version 1 in line 1, and this Parapet reads version 3"):
        archive.read(path)
