"""A verb that puts a folder in place of another deletes nothing that it did not leave there itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parapet.cli import main
from parapet.data.digits import export
from parapet.disk.files import replacing_folder
from parapet.disk.replacement import refuse_foreign
from parapet.errors import InputError
from parapet.steps.places import FOLDERS
from tests.damage import files
from tests.finished_search import SETTINGS

# The folder that a verb replaces, and its command line; the working directory holds artifacts/ and data/.
VERBS = {
    "artifacts/dataset": ["data_prep", "--out", "artifacts/dataset"],
    "artifacts/search": ["search", "--dataset", "artifacts/dataset", "--out", "artifacts/search"],
    "artifacts/evaluation": ["full_evaluation", "--dataset", "artifacts/dataset", "--search", "artifacts/search",
                             "--out", "artifacts/evaluation"],
    "artifacts/onnx": ["front", "--out", "artifacts"],
    "artifacts/report": ["report", "--out", "artifacts"],
    "artifacts/plots": ["report", "--out", "artifacts"],
    "data/digits": ["data", "fetch", "digits", "--root", "data"],
}


@pytest.fixture(scope="module")
def here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with params.yaml, data and artifacts of a finished search."""
    folder = tmp_path_factory.mktemp("replacement")
    shutil.copytree(finished, folder / "artifacts")
    export(folder / "data" / "digits")
    (folder / "params.yaml").write_text(json.dumps({**SETTINGS, "tracking": {"enabled": False}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PARAPET_DATA", raising=False)
        assert main(["report", "--out", "artifacts"]) == 0
        yield folder


def _refused(verb: list[str], place: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    before = {path: Path(path).read_bytes() for path in map(Path("artifacts").joinpath, files(Path("artifacts")))}
    code, told = main(verb), capsys.readouterr().err
    assert code == 2 and told.count("\n") == 1 and f"{place} is " in told, told
    assert place.read_text() == "mine"
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("name", ["thesis.txt", "below/thesis.txt", ".hidden", "thesis.json", "net.onnx"])
@pytest.mark.parametrize("place", VERBS)
def test_a_file_of_the_users_in_a_folder_of_ours_is_kept(here: Path, capsys: pytest.CaptureFixture, place: str,
                                                         name: str) -> None:
    path = Path(place) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    if place == "data/digits":
        Path(place, "labels.npy").write_bytes(b"")  # those that are whole are left alone
    try:
        _refused(VERBS[place], path, capsys)
    finally:
        path.unlink()
        if path.parent != Path(place):
            path.parent.rmdir()
        if place == "data/digits":
            export(Path(place))


@pytest.mark.parametrize("place", [place for place in VERBS if place.startswith("artifacts/")])
def test_a_whole_run_tells_it_before_it_begins(here: Path, capsys: pytest.CaptureFixture, place: str) -> None:
    path = Path(place, "thesis.txt")
    path.write_text("mine")
    try:
        assert main(["run", "--out", "artifacts"]) == 2
        told = capsys.readouterr()
        assert f"{path} is not from this command" in told.err and told.err.count("\n") == 1
        assert "data_prep" not in told.out and path.read_text() == "mine"
    finally:
        path.unlink()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_cache_inside_what_a_run_replaces_is_told_before_it_begins(here: Path, capsys: pytest.CaptureFixture,
                                                                     name: str) -> None:
    before = files(Path("artifacts"))
    assert main(["run", "--out", "artifacts", "--cache", f"artifacts/{name}/cache"]) == 2
    told = capsys.readouterr()
    assert f"artifacts/{name} would be replaced, and the cache artifacts/{name}/cache lies in it; " in told.err
    assert "data_prep" not in told.out and files(Path("artifacts")) == before


@pytest.mark.parametrize(("name", "make", "sentence"), [
    ("front.json", Path.mkdir, "front.json is a folder, and a file is to be written there"),
    ("metrics.json", Path.mkdir, "metrics.json is a folder, and a file is to be written there"),
    ("front.json", lambda path: path.write_text("mine"), "front.json is not from this command, and would be replaced"),
    ("metrics.json", lambda path: path.write_text('{"loss": 1}'), "metrics.json is not from this command"),
])
def test_what_stands_where_the_front_goes_is_told_before_it_begins(
        here: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str, make: Any, sentence: str) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / name)
    assert main(["run", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert sentence in told.err and told.err.count("\n") == 1 and "data_prep" not in told.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 9])
def test_a_front_of_ours_that_is_damaged_is_made_again(here: Path, damage: bytes) -> None:
    Path("artifacts/front.json").write_bytes(damage)
    assert main(["front", "--out", "artifacts"]) == 0


@pytest.mark.parametrize("place", VERBS)
def test_a_file_where_a_folder_would_be_put_is_kept(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
                                                    place: str) -> None:
    shutil.move(place, tmp_path / "aside")
    Path(place).write_text("mine")
    try:
        _refused(VERBS[place], Path(place), capsys)
    finally:
        Path(place).unlink()
        shutil.move(tmp_path / "aside", place)


def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / "nowhere").symlink_to("gone")
    for name, kind in (("thesis", "a file and no folder"), ("nowhere", "a link that leads to no folder")):
        with pytest.raises(InputError, match=f"{name} is {kind}, and would be"), replacing_folder(tmp_path / name):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nowhere", "thesis"]


@pytest.mark.parametrize("place", ["artifacts/dataset", "artifacts/onnx", "artifacts/plots", "artifacts/report",
                                   "data/digits"])
def test_what_an_earlier_run_left_makes_way(here: Path, capsys: pytest.CaptureFixture, place: str) -> None:
    before = files(Path(place))
    assert main(VERBS[place]) == 0, capsys.readouterr().err
    assert files(Path(place)) == before


def test_a_link_is_a_file_and_litter_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / ".DS_Store").touch()
    (tmp_path / "folder" / ".report.1.part").touch()
    refuse_foreign(tmp_path / "folder", ["own"])
    (tmp_path / "folder" / "below" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="below/link is not from this command"):
        refuse_foreign(tmp_path / "folder", ["own"])
