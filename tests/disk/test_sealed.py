"""JSON files and folders whose change is found."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from parapet.disk import sealed
from parapet.disk.files import read_json
from parapet.errors import InputError

VALUE = {"schema_version": 3, "name": "süß", "numbers": [0.1, 1e-300, 12345678901234567890], "none": None,
         "inner": {"b": True, "a": {"x": []}}}


def test_what_is_written_comes_back_with_its_checksum(tmp_path: Path) -> None:
    written = sealed.write(tmp_path / "a.json", VALUE)
    assert sealed.look(tmp_path / "a.json") == written and len(written["checksum"]) == 64
    assert {name: value for name, value in written.items() if name != "checksum"} == VALUE
    assert sealed.write(tmp_path / "a.json", written) == written
    assert sealed.write(tmp_path / "b.json", {"t": (1, 2), "i": {3: "x"}})["i"] == {"3": "x"}
    assert sealed.look(tmp_path / "b.json")["t"] == [1, 2]


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    written = sealed.write(path, VALUE)
    content, found = path.read_bytes(), 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << random.Random(place).randrange(8)
        path.write_bytes(changed)
        try:
            assert sealed.look(path) == written
        except sealed.Damaged:
            found += 1
    assert found > 0.85 * len(content)  # the rest is white space that became other white space


def test_sentences(tmp_path: Path) -> None:
    path, again = tmp_path / "a.json", "run `parapet front` again"

    def said(needed: dict[str, type] | None = None, version: int | None = None) -> str:
        with pytest.raises(InputError) as caught:
            sealed.read(path, again, needed, version=version)
        return str(caught.value)

    assert said() == f"{path} does not exist; {again}."
    for content, why in ((b"", "it is empty"), (b"\0" * 9, "it is empty"), (b"\xff\xfe", "it is no JSON"),
                         (b"{", "it is no JSON"), (b"[" * 100_000, "it is no JSON"), (b"[]", "it holds no JSON object"),
                         (b"9" * 5000, "it is no JSON"), (b"{}", "it has no checksum"),
                         (b'{"a": 1, "checksum": "0"}', "its checksum does not fit")):
        path.write_bytes(content)
        assert said() == f"{path} is damaged ({why}); {again}."
    sealed.write(path, VALUE)
    assert said({"ids": list}) == f"{path} is damaged (ids missing); {again}."
    assert said({"name": list}) == f"{path} is damaged (name of the wrong kind); {again}."
    assert said(version=4) == f"{path} has schema version 3, and this Parapet reads version 4; {again}."


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "front.json")
    with pytest.raises(sealed.Damaged, match="it is a folder or a pipe"):
        sealed.look(tmp_path / "front.json")
    with pytest.raises(InputError, match="front.json is no file with JSON, but a folder or a pipe; put the file back"):
        read_json(tmp_path / "front.json")


@pytest.mark.parametrize("name", ["a\0b", "../front.json", "/etc/hostname", "a/../../b"])
def test_digests_are_of_files_in_the_folder_alone(tmp_path: Path, name: str) -> None:
    assert "names no file in it" in (sealed.problem(tmp_path, {name: "0" * 64}) or "")


def test_a_sealed_folder_gives_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a.bin").write_bytes(b"weights")
    sealed.write(tmp_path / "b.json", {"x": 1})
    sealed.seal_folder(tmp_path, search_id="s")
    folder = sealed.SealedFolder(tmp_path, "search again", {"search_id": str})
    assert folder.about["search_id"] == "s" and set(folder.files) == {"inner/a.bin", "b.json"}
    assert folder.path("inner/a.bin").read_bytes() == b"weights" and folder.json("b.json", {"x": int})["x"] == 1
    (tmp_path / "inner/a.bin").write_bytes(b"Weights")
    with pytest.raises(InputError, match=r"a\.bin is damaged, or not the file that belongs here \(its SHA-256 is "):
        folder.path("inner/a.bin")
    sealed.write(tmp_path / "b.json", {"x": 2})  # sound in itself, and not the one
    with pytest.raises(InputError, match=r"b\.json is damaged, or not the file that belongs here"):
        folder.json("b.json")
    (tmp_path / "b.json").unlink()
    with pytest.raises(InputError, match=r"b\.json does not exist; search again\."):
        folder.json("b.json")
    with pytest.raises(InputError, match=r"c\.json is not among the files that .*digests\.json lists"):
        folder.path("c.json")


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "a.bin", []
    path.write_bytes(b"a")
    original = sealed.file_digest
    monkeypatch.setattr(sealed, "file_digest", lambda path: read.append(path) or original(path))
    monkeypatch.setattr(sealed.time, "time_ns", lambda: path.stat().st_ctime_ns + 10 * sealed._TICK)
    first = sealed.digest_of(path)
    assert sealed.digest_of(path) == first and len(read) == 1
    path.write_bytes(b"bb")
    assert sealed.digest_of(path) != first and len(read) == 2
    # A file that was written a moment ago may change again without its times showing it.
    monkeypatch.setattr(sealed.time, "time_ns", lambda: path.stat().st_ctime_ns)
    assert sealed.digest_of(path) == sealed.digest_of(path) and len(read) == 4
