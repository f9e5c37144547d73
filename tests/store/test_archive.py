"""The journal: append only, checksummed and chained, a torn end dropped, damage told and never overwritten."""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.errors import InputError
from parapet.store import archive
from tests.search.archive_records import line as record

RECORDS = [{"schema_version": 5, "id": f"{place:012x}", "value": place / 3, "text": "ü\n\0"} for place in range(5)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The five records, a line each."""
    path = tmp_path / "archive.jsonl"
    archive.append(path, RECORDS)
    return path


def _version_3(*values: dict) -> bytes:
    texts = [json.dumps({"schema_version": 3, **value}) for value in values]
    return b"".join(json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "record": text}).encode() + b"\n"
                    for text in texts)


def _refused(path: Path, sentence: str, *, append: bool = True) -> None:
    """Neither reading nor appending goes on, and the file stays as it is."""
    before = path.read_bytes()
    with pytest.raises(InputError, match=sentence):
        archive.read(path)
    if append:
        with pytest.raises(InputError):
            archive.append(path, RECORDS[:1])
    assert path.read_bytes() == before


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "archive.jsonl"
    archive.append(path, RECORDS[:2])
    archive.append(path, iter(RECORDS[2:]))
    archive.append(path, [])
    assert archive.read(path) == RECORDS


def test_how_they_were_appended_leaves_no_trace(journal: Path, tmp_path: Path) -> None:
    for entry in RECORDS:
        archive.append(tmp_path / "one by one.jsonl", [entry])
    assert (tmp_path / "one by one.jsonl").read_bytes() == journal.read_bytes()


def test_no_file_is_an_empty_archive(tmp_path: Path) -> None:
    assert archive.read(tmp_path / "none.jsonl") == []
    archive.append(tmp_path / "none.jsonl", [])
    assert archive.read(tmp_path / "none.jsonl") == []


def test_every_line_is_strict_json_and_carries_the_checksum_of_the_one_before(journal: Path) -> None:
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["record"] for line in lines] == RECORDS
    assert [line["after"] for line in lines] == ["0" * 64, *(line["sha256"] for line in lines[:-1])]
    with pytest.raises(ValueError):
        archive.append(journal, [{"schema_version": 5, "value": float("nan")}])
    assert archive.read(journal) == RECORDS


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 900), zeros=st.integers(0, 300))
def test_a_torn_end_costs_the_torn_records_alone(tmp_path_factory: pytest.TempPathFactory, cut: int,
                                                 zeros: int) -> None:
    path = tmp_path_factory.mktemp("archive") / "archive.jsonl"
    archive.append(path, RECORDS[:3])
    whole = path.read_bytes()
    kept = whole[:max(0, len(whole) - cut)]
    path.write_bytes(kept + b"\0" * zeros)
    survivors = archive.read(path)
    assert survivors == RECORDS[:kept.count(b"\n")]
    assert archive.torn(path) == len(kept) + zeros - (kept.rfind(b"\n") + 1)
    archive.append(path, RECORDS[3:])
    assert archive.read(path) == survivors + RECORDS[3:] and archive.torn(path) == 0


def test_a_line_whose_middle_did_not_reach_the_disk_is_torn(journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content[:-100] + b"\0" * 50 + content[-50:])
    assert archive.read(journal) == RECORDS[:4]
    archive.append(journal, RECORDS[4:])
    assert journal.read_bytes() == content


def test_lines_longer_than_what_is_read_of_the_end(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    long = [{"schema_version": 5, "id": name, "text": name * 70_000} for name in "abc"]
    for entry in long:
        archive.append(path, [entry])
    with path.open("ab") as stream:
        stream.write(b'{"after":"' + b"0" * 300_000)
    archive.append(path, RECORDS[:1])
    assert archive.read(path) == [*long, RECORDS[0]]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_changed_record_is_told_and_the_file_left_alone(journal: Path, number: int) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"value":', b'"value":9')
    journal.write_bytes(b"".join(lines))
    _refused(journal, f"archive.jsonl is damaged in line {number}: its checksum does not fit; restore the file, or "
                      "move it away to start a new archive.", append=number == 5)


def test_appending_to_a_changed_last_record_is_refused(journal: Path) -> None:
    damaged = journal.read_bytes().replace(b'"value":1.33', b'"value":1.34')
    journal.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged in its last line: its checksum does not fit"):
        archive.append(journal, RECORDS)
    assert journal.read_bytes() == damaged


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_lines_taken_out_put_in_or_moved_are_told(tmp_path_factory: pytest.TempPathFactory, places: list[int]) -> None:
    path = tmp_path_factory.mktemp("archive") / "archive.jsonl"
    archive.append(path, RECORDS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[place] for place in places))
    if places == list(range(len(places))):  # the newest are missing: a shorter archive, as good as any
        assert archive.read(path) == RECORDS[:len(places)]
        return
    wrong = next(number for number, place in enumerate(places) if place != number) + 1
    with pytest.raises(InputError, match=f"is damaged in line {wrong}: it does not follow on the line before it, so "
                                         "lines were taken out, put in or moved; restore the file, or move it away"):
        archive.read(path)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_flipped_byte_is_never_taken_for_a_record(tmp_path_factory: pytest.TempPathFactory, place: int,
                                                    value: int) -> None:
    path = tmp_path_factory.mktemp("archive") / "archive.jsonl"
    archive.append(path, RECORDS)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= value
    path.write_bytes(content)
    try:
        survivors = archive.read(path)
    except InputError:
        return
    # Where the flip looks like a torn end, the line it is in is lost.
    assert survivors == RECORDS[:len(survivors)] and len(survivors) < 5


def _by_hand(path: Path, text: bytes) -> None:
    """An archive of one record with the right checksum."""
    before = b"0" * 64
    checksum = hashlib.sha256(before + text).hexdigest().encode()
    path.write_bytes(b'{"after":"%b","sha256":"%b","record":%b}\n' % (before, checksum, text))


def test_a_record_that_is_no_json_under_the_right_checksum_is_told(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    _by_hand(path, b'{"schema_version":5,}')
    _refused(path, "is damaged in line 1: its record is no JSON that can be read")


def test_a_newer_schema_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    archive.append(path, [{"schema_version": 6}])
    _refused(path, "has schema version 6 in line 1, and this Parapet reads versions 4 and 5; use the Parapet that "
                   "wrote it, or move the file away to start a new archive.")


def test_records_of_version_4_are_read_in_today_s_form_and_can_be_added_to(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    texts = [json.dumps({"schema_version": 4, "id": "a", "validation": {"attacks": {"pgd_ce": 0.5, "audit": 0.4}}}),
             json.dumps({"schema_version": 4, "id": "b", "validation": None})]
    lines, before = [], b"0" * 64
    for text in texts:
        checksum = hashlib.sha256(before + text.encode()).hexdigest().encode()
        lines.append(b'{"after":"%b","sha256":"%b","record":%b}\n' % (before, checksum, text.encode()))
        before = checksum
    path.write_bytes(b"".join(lines))
    archive.append(path, RECORDS[:1])
    attacks = {"pgd_ce": {"alone": 0.5, "left": None}, "audit": {"alone": None, "left": 0.4}}
    assert archive.read(path) == [{"schema_version": 5, "id": "a", "validation": {"attacks": attacks}},
                                  {"schema_version": 5, "id": "b", "validation": None}, RECORDS[0]]


@pytest.mark.parametrize("validation", ['{}', '{"attacks":[]}', '{"attacks":null}', '"text"', '[1]', '7'])
def test_a_record_of_version_4_with_another_form_is_told(tmp_path: Path, validation: str) -> None:
    path = tmp_path / "archive.jsonl"
    _by_hand(path, f'{{"schema_version":4,"id":"a","validation":{validation}}}'.encode())
    _refused(path, "is damaged in line 1: its record has another form than its schema version says; restore the file")


def test_a_record_without_id_and_looks_has_no_place(tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    _by_hand(path, b'{"schema_version":5}')
    with pytest.raises(InputError, match="is damaged in line 1: its record has no id and looks; restore the file"):
        archive.places(path)


@pytest.mark.parametrize("end", [b"", b'{"sha256": "01', b"\0\0"])
def test_an_archive_of_schema_version_3_is_told(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "archive.jsonl"
    path.write_bytes(_version_3({"id": "a"}, {"id": "b"}) + end)
    _refused(path, "has schema version 3 in line 1, and this Parapet reads versions 4 and 5; use the Parapet that "
                   "wrote it")
    with pytest.raises(InputError, match="has schema version 3 in its last line"):
        archive.append(path, RECORDS)


@pytest.mark.parametrize("content", [b"\n", b"hello", b"[1]\n", b'{"a": 1}\n', b'{"record": 3}\n', b"\xff\xfe\n"])
def test_another_file_is_never_cut(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    _refused(path, "letter.txt is damaged ")


def test_of_several_looks_the_last_is_kept_where_the_first_stood() -> None:
    other, another = record(flops=5_000), record(flops=7_000)
    looks = [record(looks=count, generation=place) for place, count in enumerate((1, 3, 2, 3))]
    assert archive.latest([looks[0], other, *looks[1:], another]) == [{**looks[1], "generation": 0}, other, another]
    assert archive.latest([]) == []


def test_ten_thousand_candidates_cost_no_time_worth_telling(tmp_path: Path) -> None:
    chance = random.Random(0)
    entry = record()
    path = tmp_path / "archive.jsonl"
    archive.append(path, [{**entry, "id": f"{place:012x}", "training_seconds": chance.random()}
                          for place in range(10_000)])
    started = time.process_time()
    assert len(archive.read(path)) == 10_000
    read = time.process_time() - started
    started = time.process_time()
    for _ in range(10):
        archive.append(path, [entry])
    assert read < 3.0 and (time.process_time() - started) / 10 < 0.005
