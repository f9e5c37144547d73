"""Files are whole or absent."""

from __future__ import annotations

import ast
import errno
import fcntl
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from parapet.disk import files
from parapet.disk.files import digest, replacing, replacing_folder, scratch_folder, write_json

ROOT = Path(__file__).parents[2]
# A writer that is killed in the middle: it says that it is there, and waits.
WRITER = """
import sys, time
from pathlib import Path
from parapet.disk import files

with getattr(files, sys.argv[1])(Path(sys.argv[2])) as partial:
    (partial / "half" if partial.is_dir() else partial).write_text("half")
    print(partial, flush=True)
    time.sleep(60)
"""
WAYS = ("replacing", "replacing_folder", "scratch_folder")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(RuntimeError), replacing_folder(folder) as partial:
        (partial / "new").touch()
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not (tmp_path / "x.json").exists()


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})


def _writer(way: str, path: Path) -> tuple[subprocess.Popen, Path]:
    """A process that writes `path` and will not finish, and its temporary file or folder."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, way, str(path)], stdout=subprocess.PIPE, text=True,
                               env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""})
    return process, Path(process.stdout.readline().strip())


def _kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def _write(way: str, path: Path) -> None:
    with getattr(files, way)(path) as partial:
        assert partial.parent == path.parent and (not any(partial.iterdir()) if partial.is_dir()
                                                  else partial.read_bytes() == b"")
        (partial / "whole" if partial.is_dir() else partial).write_text("whole")


@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_writer_left_is_gone_after_the_next_one(tmp_path: Path, way: str) -> None:
    path = tmp_path / "report"
    pairs = [_writer(way, path) for _ in range(3)]
    left = {partial for _, partial in pairs}
    assert len(left) == 3 and all(partial.exists() for partial in left)
    for process, _ in pairs:
        _kill(process)
    assert set(tmp_path.iterdir()) == left  # a kill leaves them
    _write(way, path)
    assert list(tmp_path.iterdir()) == ([] if way == "scratch_folder" else [path])


@pytest.mark.parametrize("way", WAYS)
def test_what_a_living_writer_has_is_left_to_it(tmp_path: Path, way: str) -> None:
    path = tmp_path / "report"
    process, partial = _writer(way, path)
    try:
        _write(way, path)
        half = partial / "half" if partial.is_dir() else partial
        assert half.read_text() == "half"
    finally:
        _kill(process)


def test_a_killed_replacement_keeps_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "report"
    _write("replacing_folder", path)
    process, _ = _writer("replacing_folder", path)
    _kill(process)
    assert (path / "whole").read_text() == "whole"
    _write("replacing_folder", path)
    assert list(tmp_path.iterdir()) == [path]


def test_many_threads_write_one_file_and_it_is_always_whole(tmp_path: Path) -> None:
    path, failures = tmp_path / "value.json", []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                write_json(path, [number] * 1000)
                assert len(set(files.read_json(path))) == 1
        except Exception as error:
            failures.append(error)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and list(tmp_path.iterdir()) == [path]


def test_many_threads_replace_one_folder_and_it_is_always_whole(tmp_path: Path) -> None:
    path, failures = tmp_path / "report", []

    def write(number: int) -> None:
        try:
            for _ in range(40):
                with replacing_folder(path) as partial:
                    (partial / "one").write_text(str(number))
                    (partial / "other").write_text(str(number))
        except Exception as error:
            failures.append(error)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and list(tmp_path.iterdir()) == [path]
    assert (path / "one").read_text() == (path / "other").read_text()


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    path, replace = tmp_path / "report", Path.replace
    _write("replacing_folder", path)

    def refuse(source: Path, target: Path) -> Path:
        if target == path and source.suffix == ".part":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(source, target)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"), replacing_folder(path):
        pass
    assert (path / "whole").read_text() == "whole" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", WAYS)
def test_where_nothing_can_be_locked_names_are_nobody_else_s(tmp_path: Path, way: str, monkeypatch) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")
    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "report"
    with scratch_folder(path) as one, scratch_folder(path) as other:
        assert one != other
    _write(way, path)
    assert list(tmp_path.iterdir()) == ([] if way == "scratch_folder" else [path])


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "file" / "below" / "value.json"):
        pass


def test_nothing_temporary_is_made_beside_a_target_in_another_way() -> None:
    """`tempfile` with `dir=` makes what a kill leaves for ever; `scratch_folder` and `replacing` do not."""
    odd = []
    for folder in ("src", "components", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            odd += [f"{path.relative_to(ROOT)}:{node.lineno}" for node in ast.walk(ast.parse(path.read_text()))
                    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
                        "mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile")
                    and any(word.arg == "dir" for word in node.keywords)]
    assert odd == []
