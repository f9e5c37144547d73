"""`parapet`: exit codes, and the one sentence for each wrong input."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from parapet import cli
from parapet.data import digits as digits_files
from parapet.errors import InputError, Interrupted, PromotionRefused, WorkError, is_disk_full

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the digits in data/ and an empty params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARAPET_DATA", raising=False)
    digits_files.export(tmp_path / "data" / "digits")
    (tmp_path / "params.yaml").write_text("")
    return tmp_path


def _check(here: Path, capsys: pytest.CaptureFixture, text: str = "", *arguments: str) -> tuple[int, str]:
    (here / "params.yaml").write_text(text)
    code = cli.main(["check", *arguments])
    return code, capsys.readouterr().err


def test_good_input_is_in_order(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["check"]) == 0
    said = capsys.readouterr().out
    assert "digits: 1,797 images, L-inf, eps = 0.2" in said
    assert "params.yaml and the data set digits are in order." in said


@pytest.mark.parametrize(("text", "sentence"), [
    ("search: {populatoin: 4}", "did you mean search.population?"),
    ("search: {population: 1}", "search.population is 1; allowed is from 2 to 1000."),
    ("threat: {eps: 8}", "did you mean 8/255 (0.0314)?"),
    ("data: {name: cifar}", "data.name is 'cifar'; did you mean cifar10?"),
    ("a: [", "cannot be read as plain YAML"),
    ("threat: {eps: 1.0e+400}", "threat.eps is inf, and it must be a number."),
    ("report: {title: !!timestamp x}",
     "the tag tag:yaml.org,2002:timestamp is not supported; write the value without it"),
    ("device: tpu", "device is 'tpu'; allowed: auto, cpu, cuda, cuda:0"),
    ("search: {space: {widht: [4]}}", "search.space.widht is not a gene; did you mean width?"),
    ("threat: {norm: l2, eps: 100}", "no two images of 1x8x8 pixels are further apart than 8 in l2"),
    ("data: {name: mnist}", "parapet data fetch mnist"),
])
def test_wrong_input_is_one_sentence_and_exit_code_2(here: Path, capsys: pytest.CaptureFixture, text: str,
                                                     sentence: str) -> None:
    code, said = _check(here, capsys, text)
    assert code == 2 and sentence in said
    assert said.startswith("parapet: ") and said.count("\n") == 1


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    code, said = _check(here, capsys, "device: cuda")
    assert code == 2 and "this machine has no CUDA device that torch can use; set device to auto or cpu" in said


def test_a_damaged_data_file_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    path = here / "data/digits/images.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 255
    path.chmod(0o644)
    path.write_bytes(content)
    code, said = _check(here, capsys)
    assert code == 2 and "images.npy" in said and "dvc pull" in said


def test_a_class_that_is_missing_from_a_split_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    images, labels = digits_files.read(here / "data/digits")
    kept = (labels != 9) | (np.cumsum(labels == 9) == 1)
    digits_files.write(here / "data/digits", images[kept], labels[kept])
    code, said = _check(here, capsys)
    assert code == 2 and "class" in said and "9" in said and said.count("\n") == 1


def test_a_missing_data_file_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(here / "data")
    code, said = _check(here, capsys)
    assert code == 2 and "dvc pull" in said


def refused(**options: Any) -> None:
    """As an operating system refuses to write."""
    raise PermissionError(errno.EACCES, "Permission denied")


def test_an_output_folder_that_cannot_be_written_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "file").touch()
    code, said = _check(here, capsys, "", "--out", "file/below")
    assert code == 2 and "file is a file and no folder; give another folder with --out, or move that file" in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", refused)
        code, said = _check(here, capsys, "", "--out", "below")
    assert code == 2 and "the output folder below cannot be written (Permission denied)" in said


def test_missing_parameters_are_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["check", "--params", "none.yaml"]) == 2
    assert "none.yaml does not exist; give a parameter file with --params FILE" in capsys.readouterr().err


def test_a_step_without_its_input_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["search"]) == 2
    assert "parapet data_prep" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code", "sentence"), [
    (InputError("wrong"), 2, "parapet: wrong"),
    (WorkError("failed"), 1, "parapet: failed"),
    (PromotionRefused("refused"), 3, "parapet: refused"),
    (Interrupted("SIGTERM"), 130, "the same command goes on from there"),
    (KeyboardInterrupt(), 130, "the same command goes on from there"),
    (OSError(28, "No space left on device", "/x"), 1, "the disk is full (while writing /x); free some space"),
    (PermissionError(13, "Permission denied", "/x"), 2, "/x cannot be written (Permission denied)"),
    (OSError(30, "Read-only file system", "/x"), 2, "/x cannot be written (Read-only file system)"),
    (OSError(36, "File name too long", "y" * 300), 2, "yyy... cannot be used (File name too long); give a short"),
    (OSError(40, "Too many levels of symbolic links", "/x"), 2, "/x cannot be used (Too many levels of symbolic"),
    (RuntimeError("Symlink loop from '/x'"), 2, "parapet: /x cannot be used (it is a link to itself); remove the link"),
    (NotADirectoryError(20, "Not a directory", "/x/y"), 2, "/x/y cannot be used (Not a directory); move the file away"),
    (FileNotFoundError(2, "No such file or directory", "/x"), 2, "run the steps that come before"),
    (RuntimeError("attempt to write a readonly database"), 2,
     "a file that is needed cannot be written (attempt to write a readonly database); give a folder that"),
])
def test_how_work_ends_is_its_exit_code(capsys: pytest.CaptureFixture, error: BaseException, code: int,
                                        sentence: str) -> None:
    def work() -> None:
        raise error
    assert cli.guarded("parapet", work) == code
    assert sentence in capsys.readouterr().err


def test_a_bug_is_told_as_a_fault_of_parapet(here: Path, capsys: pytest.CaptureFixture) -> None:
    def work() -> None:
        raise ZeroDivisionError
    assert cli.guarded("parapet", work) == 1
    assert capsys.readouterr().err.startswith("parapet: this is a fault of Parapet (ZeroDivisionError); a crash report")
    assert "ZeroDivisionError" in next(here.glob("parapet-crash-*.txt")).read_text()


def test_libraries_have_their_own_words_for_a_full_disk() -> None:
    assert is_disk_full(RuntimeError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'))
    assert is_disk_full(RuntimeError("(sqlite3.OperationalError) database or disk is full"))
    assert not is_disk_full(RuntimeError("shape mismatch"))


def _mounted(folder: Path, options: str) -> bool:
    folder.mkdir(exist_ok=True)
    return shutil.which("mount") is not None and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False).returncode == 0


def test_a_full_disk_ends_the_search_and_loses_nothing(tmp_path: Path, digits_folder: Path) -> None:
    """On a real file system that really fills up; after making room the same command ends well."""
    disk = tmp_path / "disk"
    if not _mounted(disk, "size=60k"):
        pytest.skip("mounting a small file system needs root")
    try:
        (tmp_path / "params.yaml").write_text(
            "{tracking: {enabled: false}, search: {population: 2, generations: 1, space: {width: [4], depth: [1]},"
            " minimum_clean_accuracy: 0.0}, training: {epochs: 2, checkpoint_seconds: 0},"
            " attack_evaluation: {images: 30, rapid_steps: 2, rapid_queries: 5, audit_images: 20},"
            " export: {latency_runs: 10, latency_seconds: 0}}")
        command = [sys.executable, "-m", "parapet.cli", "search", "--params", str(tmp_path / "params.yaml"),
                   "--dataset", str(digits_folder), "--out", str(tmp_path / "out"), "--cache", str(disk / "cache")]
        full = subprocess.run(command, capture_output=True, text=True, check=False)
        assert full.returncode == 1, full.stdout + full.stderr
        assert "the disk is full" in full.stderr and "what is done is kept" in full.stderr
        assert _mounted(disk, "remount,size=50m")
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stdout + again.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.parametrize("driver", ["make", "dvc"])
def test_the_run_ends_when_its_driver_is_killed(tmp_path: Path, driver: str) -> None:
    """`kill -9` of make or DVC reaches nobody else: the run watches every process up to them."""
    run = shlex.join([sys.executable, "-c", "import time; from parapet.cli import guarded; "
                      "guarded('parapet', lambda: time.sleep(300))"])
    script = tmp_path / driver
    # a stand-in by name, with a shell between it and the run, as make and DVC have one
    script.write_text(f"import subprocess\nsubprocess.run(['/bin/sh', '-c', {run + '; true'!r}])\n")
    with subprocess.Popen([sys.executable, str(script)]) as process:
        end = time.monotonic() + 20
        family: list[psutil.Process] = []
        while time.monotonic() < end and len(family) < 2:
            family = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.2)
        assert len(family) == 2, "the stand-in did not start a shell and a run"
        time.sleep(3)
        assert family[-1].is_running()
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


@pytest.mark.parametrize(("mark", "value"), [("DVC_STAGE", "search"), ("MAKELEVEL", "1")])
def test_a_run_whose_driver_died_before_it_could_look_does_not_begin(mark: str, value: str) -> None:
    """The driver's mark is in the environment, and no such driver is among the parents."""
    free = {name: text for name, text in os.environ.items() if name not in ("DVC_STAGE", "MAKELEVEL")}
    code = "from parapet.cli import guarded; import sys; sys.exit(guarded('parapet', lambda: print('began')))"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}]).wait()"
    # a fresh session of its own: these tests may themselves run under make
    done = subprocess.run(["setsid", "-f", "-w", sys.executable, "-c", orphan], env={**free, mark: value},
                          capture_output=True, text=True, check=False)
    under_make = any("make" in process.name() for process in psutil.Process().parents())
    if not (under_make and mark == "MAKELEVEL"):
        assert "began" not in done.stdout and "interrupted" in done.stderr


def test_a_step_whose_input_is_nowhere_is_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    for verb in (["report", "--out", "nowhere"], ["promotion", "--out", "nowhere"]):
        assert cli.main(verb) == 2
        assert "nowhere/front.json does not exist; finish a search with `parapet run` first, or name the folder" in \
            capsys.readouterr().err


def test_dvc_s_complete_parameters_are_asked_for(here: Path, capsys: pytest.CaptureFixture) -> None:
    code, said = _check(here, capsys, "seed: 1", "--complete")
    assert code == 2 and "is missing, and dvc.yaml names it" in said


def test_under_nohup_the_run_outlives_its_parent(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    code = ("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from parapet.cli import guarded; import time;"
            f"guarded('parapet', lambda: (time.sleep(4), open('{marker}', 'w').close())[0])")
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', "
                               f"{code!r}])"])
    time.sleep(2)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while time.monotonic() < end and not marker.exists():
        time.sleep(0.2)
    assert marker.exists()


def test_every_step_has_its_verb() -> None:
    said = subprocess.run([sys.executable, "-m", "parapet.cli", "--help"], capture_output=True, text=True, check=True,
                          env={**os.environ, "COLUMNS": "120"}).stdout
    for verb in ("check", "run", "data_prep", "search", "full_evaluation", "front", "report", "promotion", "select",
                 "promote", "rollback", "serve", "sync"):
        assert re.search(rf"^    {verb}\s", said, re.MULTILINE), verb
