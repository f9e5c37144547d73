"""The real children of `parapet train` and `parapet attack`: how a death is told, and that none is left behind."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from parapet.models import load
from parapet.steps import train

ROOT = Path(__file__).parents[2]
OPTIONS = ["--recipe", "digits", "--threads", "1", "--set", "training.epochs=3", "--set", "genome.width=4", "--set",
           "genome.steps=1", "--set", "training.validation_steps=2", "--set", "training.validation_images=60"]
# `parapet`, with the child's work replaced.
PLANTED = ("import sys; from parapet.steps import train; train._WORK = 'tests.cli.planted_training:work'; "
           "from parapet.cli import main; sys.exit(main(sys.argv[1:]))")
MODEL = """
import os, signal
from torch import nn

class Crashing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(64, 10), 0

    def forward(self, images):
        self.calls += 1
        if self.calls > 3:
            print("about to crash")
            os.kill(os.getpid(), signal.SIGSEGV)
        return self.layer(images.flatten(1))
"""


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits_folder: Path):
    """Runs `parapet train` with a child that does something else in epoch 2."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.chdir(tmp_path)

    def start(how: str, *arguments: str) -> subprocess.Popen[str]:
        monkeypatch.setenv("PLANTED", how)
        return subprocess.Popen([sys.executable, "-c", PLANTED, "train", *OPTIONS, "--data", str(digits_folder),
                                 *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return start


def _children(run: subprocess.Popen, checkpoint: Path) -> list[psutil.Process]:
    end = time.monotonic() + 600
    while time.monotonic() < end and not checkpoint.exists() and run.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)
    children = psutil.Process(run.pid).children(recursive=True)
    assert any("parapet.processes.worker" in child.cmdline() for child in children)
    return children


def test_a_training_that_dies_by_a_signal_is_one_sentence_and_goes_on_later(planted, tmp_path: Path) -> None:
    said, told = (run := planted("SIGABRT")).communicate(timeout=900)
    assert run.returncode == 1
    assert re.fullmatch(
        r"parapet: training of digits \(plain 4x\d \w+, .*\) died by SIGABRT; the last lines of its standard error: "
        r"double free or corruption \(out\) \| Fatal Python error: Aborted \| File \".*planted_training.py\", line \d+ "
        r"in epoch; "
        r"the same command goes on from the last checkpoint, and another network, for example with --set "
        r"genome.width=8 or --set genome.backbone=plain, may go round it\.\n", told), told
    assert "epoch 1/3" in said and "epoch 2/3" not in said
    again = subprocess.run([sys.executable, "-m", "parapet.cli", "train", *OPTIONS, "--data",
                            str(Path(_data(tmp_path)))], capture_output=True, text=True, check=False)
    assert again.returncode == 0 and again.stderr == "" and "resumes after epoch 1 of 3" in again.stdout
    assert load(tmp_path / "runs/train" / train.WEIGHTS).genome.width == 4


def _data(folder: Path) -> str:
    from parapet.disk.files import read_json

    return read_json(folder / "runs/train" / train.RECORD)["data"]["folder"]


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_no_child_outlives_its_command(planted, tmp_path: Path, end: str) -> None:
    import signal

    run = planted("wait")
    children = _children(run, tmp_path / "runs/train/checkpoint.safetensors")
    run.send_signal(getattr(signal, end))
    _, told = run.communicate(timeout=120)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    if end != "SIGKILL":
        assert run.returncode == 130
        assert told == "\ninterrupted; what is done is kept, and the same command goes on from there.\n"


def test_want_of_memory_is_one_sentence(planted) -> None:
    _, told = (run := planted("memory")).communicate(timeout=900)
    assert run.returncode == 1 and told.count("\n") == 1
    assert re.match(r"parapet: training of digits \(plain 4x.*\) ran out of memory; MemoryError: it said nothing; the "
                    "same command goes on from the last checkpoint", told)


def test_a_fault_in_the_child_leaves_a_report_with_its_traceback(planted, tmp_path: Path) -> None:
    _, told = (run := planted("fault")).communicate(timeout=900)
    assert run.returncode == 1 and told.count("\n") == 1
    [report] = tmp_path.glob("parapet-crash-*.txt")
    assert told == ("parapet: this is a fault of Parapet (ZeroDivisionError: a planted bug, token=***); a crash report "
                    f"was written to {report}; please send it.\n")
    text = report.read_text()
    assert "planted_training.py" in text and "in epoch" in text and "hunter2" not in text


def test_debug_shows_the_childs_traceback(planted) -> None:
    _, told = (run := planted("fault", "--debug")).communicate(timeout=900)
    assert run.returncode == 1
    assert "in the child process:\nTraceback (most recent call last):" in told and "ZeroDivisionError" in told
    assert "debug  training: begun" in told or "debug  train: begun" in told


def test_a_model_of_the_users_own_that_crashes_is_one_sentence(tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=generator.random((20, 1, 8, 8), dtype=np.float32),
             labels=generator.integers(0, 10, 20))
    (tmp_path / "own_crashing_nets.py").write_text(MODEL)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}")
    line = [sys.executable, "-m", "parapet.cli", "attack", "--model", "own_crashing_nets:Crashing", "--data",
            "images.npz", "--eps", "0.1", "--attacks", "pgd_ce"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "parapet: evaluation of own_crashing_nets:Crashing died by SIGSEGV; the last lines of its standard error: "
        "about to crash | Fatal Python error: Segmentation fault | File ")
    line = MODEL[:MODEL.index("os.kill")].count("\n") + 1
    assert f'own_crashing_nets.py", line {line} in forward; the same command resumes after the last' in done.stderr
