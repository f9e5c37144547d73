"""Paths that are none, pipes where files should be, and files that may not be read: one sentence, never a fault."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from parapet.cli import main
from parapet.data.digits import export
from tests.finished_search import SETTINGS

LONG = "x" * 300
ARCHIVE = "artifacts/search/archive.jsonl"
READERS = {
    "select": ["select"], "report": ["report", "--out", "artifacts"], "front": ["front", "--out", "artifacts"],
    "list": ["archive", "list", "--front", "--archive", ARCHIVE], "verify": ["archive", "verify", "--archive", ARCHIVE],
}
ATTACK = ["attack", "--eps", "0.1", "--attacks", "fgsm", "--images", "4", "--model"]


@pytest.fixture(scope="module")
def here(finished: Path) -> Iterator[Path]:
    """A working directory, which anybody may enter, with params.yaml, data and artifacts of a finished search."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(finished, folder / "artifacts")
        export(folder / "data" / "digits")
        (folder / "params.yaml").write_text(json.dumps({**SETTINGS, "tracking": {"enabled": False}}))
        (folder / "file").write_text("mine")
        (folder / "loop").symlink_to("loop")
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        np.savez(folder / "images.npz", images=np.zeros((4, 1, 8, 8), np.uint8), labels=np.arange(4))
        (folder / "model.safetensors").symlink_to(next((folder / "artifacts/search/candidates").iterdir())
                                                  / "model.safetensors")
        patch.chdir(folder)
        patch.delenv("PARAPET_DATA", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for line in READERS.values():  # what they import may lie where an ordinary user does not get
            assert main(line) == 0
        yield folder


@contextmanager
def instead(path: str, make: object = None) -> Iterator[Path]:
    """What `make` makes at `path` takes the place of what is there meanwhile."""
    place = Path(path)
    place.rename(f"{path}.aside")
    try:
        if make is not None:
            make(place)
        yield place
    finally:
        place.unlink(missing_ok=True)
        Path(f"{path}.aside").rename(place)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _told(line: list[str], capsys: pytest.CaptureFixture, codes: tuple[int, ...] = (2,)) -> str:
    capsys.readouterr()
    code = main(line)
    told = capsys.readouterr()
    said = told.out + told.err
    assert code in codes and "fault of Parapet" not in said and "Traceback" not in said, said
    return said


@pytest.mark.parametrize("line", [
    ["select", "--out", "{}"], ["front", "--out", "{}"], ["report", "--out", "{}"],
    ["archive", "list", "--archive", "{}"], ["archive", "verify", "--archive", "{}"],
    ["train", "--recipe", "digits", "--data", "{}"], ["train", "--recipe", "digits", "--out", "{}"],
    ["train", "--recipe", "{}.yaml"], ["data_prep", "--out", "{}"], ["data", "fetch", "digits", "--root", "{}"],
    ["data", "fetch", "mnist", "--root", "{}"], ["data", "fetch", "digits", "--root", "new", "--from", "{}"],
    ["promote", "--dataset", "{}"], ["promote", "--cache", "{}"], ["search", "--dataset", "artifacts/dataset", "--out",
                                                                 "{}"],
    ["full_evaluation", "--dataset", "artifacts/dataset", "--search", "artifacts/search", "--out", "{}"],
    [*ATTACK, "{}.safetensors", "--data", "images.npz"], [*ATTACK, "{}.pt2", "--trust", "--data", "images.npz"],
    [*ATTACK, "model.safetensors", "--data", "{}"], [*ATTACK, "model.safetensors", "--data", "{}.npz"],
    [*ATTACK, "model.safetensors", "--data", "images.npz", "--out", "{}"],
    [*ATTACK, "model.safetensors", "--data", "images.npz", "--save-images", "{}.npz"],
    [*ATTACK, "{}", "--data", "images.npz"], ["select", "--params", "{}"], ["check", "--out", "{}"],
], ids=lambda line: " ".join(line)[-60:])
@pytest.mark.parametrize("bad", [LONG, "loop", "file"])
def test_what_is_no_place_is_told(here: Path, capsys: pytest.CaptureFixture, line: list[str], bad: str) -> None:
    if "--save-images" in line and bad != LONG:
        return  # with its ending it is the name of a new file
    said = _told([part.replace("{}", bad) for part in line], capsys)
    assert len(said) < 900
    assert (here / "file").read_text() == "mine"


@pytest.mark.parametrize("bad", [LONG, "loop"])
def test_a_root_of_data_that_is_no_place_is_told(here: Path, capsys: pytest.CaptureFixture, monkeypatch,
                                                 bad: str) -> None:
    (here / "odd.yaml").write_text(json.dumps({"data": {"root": bad}, "tracking": {"enabled": False}}))
    assert "is not in loop" in _told(["check", "--params", "odd.yaml"], capsys) or bad == LONG
    monkeypatch.setenv("PARAPET_DATA", bad)
    main(["check"])
    assert "fault of Parapet" not in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{bad}")
    _told(["promote"], capsys, (1, 2))


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize("path", ["front.json", "search/digests.json", "evaluation/digests.json", "evaluation",
                                  "search/archive.jsonl", "dataset"])
def test_a_link_to_itself_is_told(here: Path, capsys: pytest.CaptureFixture, path: str, verb: str) -> None:
    with instead(f"artifacts/{path}", _loop):
        _told(READERS[verb], capsys, (0, 1, 2))


@pytest.mark.parametrize("verb", ["verify", "front", "report"])
@pytest.mark.parametrize("make", [os.mkfifo, _zero, _loop])
def test_what_has_no_end_under_a_digest_is_told(here: Path, capsys: pytest.CaptureFixture, make: object,
                                                verb: str) -> None:
    folder = Path("artifacts/evaluation")
    kinds = ["*.json", "*.safetensors", "*-int8.onnx"]
    for path in [found[0] for kind in kinds if (found := sorted(folder.glob(kind)))]:
        with instead(str(path), make):
            said = _told(READERS[verb], capsys, (0, 1, 2))
            assert verb != "verify" or path.name in said


@pytest.mark.parametrize("line", [
    [*ATTACK, "model.safetensors", "--data", "pipe.npz"], [*ATTACK, "pipe.safetensors", "--data", "images.npz"],
    [*ATTACK, "pipe.pt2", "--trust", "--data", "images.npz"], ["train", "--recipe", "pipe.yaml"]])
def test_a_pipe_that_is_given_is_told(here: Path, capsys: pytest.CaptureFixture, line: list[str]) -> None:
    for ending in ("npz", "safetensors", "pt2", "yaml"):
        if not (here / f"pipe.{ending}").exists():
            os.mkfifo(here / f"pipe.{ending}")
    assert "pipe or a device" in _told(line, capsys)


def test_a_pipe_in_the_data_and_one_for_the_log_are_told(here: Path, capsys: pytest.CaptureFixture,
                                                         monkeypatch) -> None:
    with instead("data/digits/images.npy", os.mkfifo):
        assert "images.npy is a pipe" in _told(["data_prep", "--out", "new"], capsys)
    os.mkfifo("log")
    monkeypatch.setenv("PARAPET_LOG", "json")
    monkeypatch.setenv("PARAPET_LOG_FILE", "log")
    assert "a pipe that nobody reads" in _told(["select"], capsys)
    reader = os.open("log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(["select"]) == 0 and main(["select", "nonsense"]) == 2
        assert b'"exit_code"' in os.read(reader, 1 << 16)
    finally:
        os.close(reader)


@contextmanager
def closed_to_us(path: str) -> Iterator[None]:
    """Nobody has rights on `path`, and this process is an ordinary user."""
    mode, root = Path(path).stat().st_mode, os.geteuid() == 0
    Path(path).chmod(0)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        Path(path).chmod(mode)


@pytest.mark.parametrize("line", [*READERS.values(), ["archive", "list", "--front", "--archive", ARCHIVE],
                                  ["check", "--out", "artifacts"],
                                  [*ATTACK, "model.safetensors", "--data", "artifacts/dataset", "--out",
                                   "open/attack"]],
                         ids=lambda line: " ".join(line)[:30])
@pytest.mark.parametrize("path", ["artifacts/front.json", ARCHIVE, "artifacts/evaluation", "artifacts/dataset",
                                  "artifacts/search", "data/digits", "data"])
def test_what_may_not_be_read_is_not_said_to_be_written(here: Path, capsys: pytest.CaptureFixture, path: str,
                                                        line: list[str]) -> None:
    with closed_to_us(path):
        said = _told(line, capsys, (0, 1, 2))
    if "check" not in line:
        assert f"{path} cannot be written" not in said and f"{path}/dataset.json cannot be written" not in said, said
    assert "cannot be written" not in said or "artifacts cannot be written" in said or "artifacts/." in said, said


def test_a_folder_to_fetch_from_that_may_not_be_read_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    with closed_to_us("data/digits"):
        said = _told(["data", "fetch", "digits", "--root", "fresh", "--from", "data"], capsys)
    assert "cannot be read" in said and "--from" in said, said


@pytest.mark.parametrize("make", [None, lambda path: path.write_text(""), lambda path: path.symlink_to("gone"), _loop])
def test_data_that_front_json_names_and_that_are_gone_are_told(here: Path, capsys: pytest.CaptureFixture,
                                                               make: object) -> None:
    with instead("artifacts/dataset", make):
        assert "artifacts/dataset" in _told(READERS["verify"], capsys, (1,))
    assert main(READERS["verify"]) == 0


def test_the_data_that_are_named_are_looked_at_before_anything_is_promoted(here: Path,
                                                                           capsys: pytest.CaptureFixture) -> None:
    assert "nowhere holds no prepared data set" in _told(["promote", "--dataset", "nowhere"], capsys)
