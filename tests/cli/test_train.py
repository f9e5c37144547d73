"""`parapet train`: a line an epoch, what it says where the input is wrong, and how a killed one goes on."""

from __future__ import annotations

import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from parapet import cli
from parapet.models import load
from parapet.training import loop
from parapet.training.checkpoint import peek

TINY = ["--recipe", "digits", "--threads", "1", "--set", "training.epochs=2", "--set", "genome.width=4",
        "--set", "genome.steps=1", "--set", "training.validation_steps=2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARAPET_DATA", raising=False)
    return tmp_path


def _train(*arguments: str) -> int:
    return cli.main(["train", *TINY, *arguments])


def test_built_in_digits_from_nothing_to_the_attack(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert _train() == 0
    told = capsys.readouterr().out
    record = json.loads((here / "runs/train/train.json").read_text())
    assert record["run"]["genome"]["width"] == 4 and record["run"]["training"]["epochs"] == 2
    first = next(line for line in told.splitlines() if line.startswith("epoch 1/2"))
    parts = first.split("  ")
    assert [part.split()[0] for part in parts[:4]] == ["epoch", "loss", "clean", "robust"]
    assert parts[3].endswith("% (PGD-2)") and parts[4].endswith("images/s")
    validation = record["validation"]
    assert f"robust accuracy {100 * validation['robust_accuracy']:.1f} % under PGD-2 (L-inf, eps = 0.2, 359 " in told
    assert not (here / "runs/train/checkpoint.safetensors").exists()
    command = shlex.split(told.splitlines()[-1])
    assert command == ["parapet", "attack", "--model", "runs/train/model.safetensors", "--data", "runs/train/dataset",
                       "--norm", "linf", "--eps", "0.2", "--suite", "standard", "--audit"]
    assert cli.main([*command[1:-1], "--attacks", "fgsm", "--images", "20"]) == 0


def test_a_finished_run_is_reported_again(here: Path, digits_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert _train("--data", str(digits_folder)) == 0
    first = capsys.readouterr().out
    before = (here / "runs/train/train.json").read_text()
    assert _train("--data", str(digits_folder)) == 0
    again = capsys.readouterr().out
    assert "finished before; nothing is trained again" in again and "epoch 1/2" not in again
    assert again.splitlines()[-4:] == first.splitlines()[-4:]
    assert (here / "runs/train/train.json").read_text() == before
    assert _train("--data", str(digits_folder), "--seed", "1") == 2
    assert capsys.readouterr().err == ("parapet: runs/train holds another run: it differs in seed (0 there, 1 here); "
                                       "give another folder with --out.\n")


def test_killed_and_started_again_the_weights_are_the_same(here: Path, digits_folder: Path) -> None:
    options = [*TINY, "--data", str(digits_folder), "--set", "training.epochs=6"]
    line = [sys.executable, "-m", "parapet.cli", "train", *options, "--out", "killed"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        _wait_for(here / "killed/checkpoint.safetensors", run)
        run.send_signal(signal.SIGKILL)
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumes after epoch " in done.stdout
    assert cli.main(["train", *options, "--out", "undisturbed"]) == 0
    expected, found = (load(here / name / "model.safetensors").state_dict() for name in ("undisturbed", "killed"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_killed_at_ten_random_moments_the_weights_are_the_same(here: Path, digits_folder: Path) -> None:
    options = [*TINY, "--data", str(digits_folder)]
    for change in ("training.epochs=90", "training.weight_average=0.9", "training.adapt=true", "genome.loss=trades",
                   "genome.morel=0.1", "genome.weight_perturbation=0.005"):
        options += ["--set", change]
    line, moments = [sys.executable, "-u", "-m", "parapet.cli", "train", *options, "--out", "killed"], random.Random(0)
    for kill in range(10):
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            # Epochs and not seconds, so that no machine is too slow to do anything, or so fast that it is done.
            epochs = (text for text in iter(run.stdout.readline, "") if text.startswith("epoch "))
            for _ in range(moments.randint(1, 4)):
                assert next(epochs, None), f"the run was over before kill {kill}"
            time.sleep(moments.uniform(0, 1))
            run.kill()
    assert 10 <= peek(here / "killed/checkpoint.safetensors")[0]["epoch"] < 90
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cli.main(["train", *options, "--out", "undisturbed"]) == 0
    expected, found = (load(here / name / "model.safetensors").state_dict() for name in ("undisturbed", "killed"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_interrupted_run_says_how_to_go_on(here: Path, digits_folder: Path, capsys: pytest.CaptureFixture,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    honest = loop.train_epoch

    def interrupted(*arguments):
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        return honest(*arguments)
    monkeypatch.setattr(loop, "train_epoch", interrupted)
    assert _train("--data", str(digits_folder)) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert _train("--data", str(digits_folder)) == 0
    assert "resumes after epoch 1 of 2" in capsys.readouterr().out


def test_numbers_that_go_bad_are_exit_code_1(here: Path, digits_folder: Path, capsys: pytest.CaptureFixture,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    honest = loop.train_epoch
    monkeypatch.setattr(loop, "train_epoch", lambda *arguments: {
        **honest(*arguments), **({"loss": float("nan")} if arguments[-1] == 1 else {})})
    assert _train("--data", str(digits_folder)) == 1
    told = capsys.readouterr().err
    assert told.startswith("parapet: the loss was not finite in epoch 2 of 2") and told.count("\n") == 1
    assert load(here / "runs/train/model.safetensors").genome.width == 4


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--recipe", "digitz"], "there is no recipe 'digitz'; did you mean digits? Allowed: cifar10, cifar10_fast, "
     "cifar10_morel, digits, mnist, mnist_trades_small_cnn, or the path of a .yaml file."),
    (["--recipe", "none.yaml"], "none.yaml does not exist; give the path of a recipe, or one of cifar10, cifar10_fast, "
     "cifar10_morel, digits, mnist, mnist_trades_small_cnn."),
    (["--set", "genome.trades_beta=-1"], "recipe digits: genome.trades_beta is -1.0; it must be a number from 0 to "
     "100."),
    (["--set", "genome.trades_beta=.inf"], "recipe digits: genome.trades_beta is inf, and it must be a number."),
    (["--set", "training.batch_size=5000"], "training.batch_size is 5000, and there are 1079 training images; choose a "
     "batch of at most 1079."),
    (["--set", "genome.backbone=small_cnn"], "images of 8x8 pixels are too small for small_cnn; the smallest allowed "
     "size is 16x16."),
    (["--data", "nowhere"], "--data nowhere is no folder; give a prepared data set (parapet data_prep makes one), or "
     "downloaded data in torchvision's layout."),
    (["--recipe", "mnist"], "the recipe mnist needs mnist, and neither --data nor PARAPET_DATA says where it is; run "
     "`parapet data fetch mnist` and give --data data."),
    (["--device", "tpu"], "device is 'tpu'; allowed: auto, cpu, cuda, cuda:0, cuda:1, ..."),
    (["--threads", "0"], "--threads is 0; it must be a whole number from 1 to 1,024."),
    (["--seed", "-1"], "--seed is -1; it must lie in 0 to 2**63 - 1."),
])
def test_wrong_input_is_one_sentence_and_exit_code_2(here: Path, capsys: pytest.CaptureFixture, arguments: list[str],
                                                     sentence: str) -> None:
    assert _train(*arguments) == 2
    assert capsys.readouterr().err == f"parapet: {sentence}\n"
    assert not (here / "runs/train/train.json").exists()


def test_a_folder_without_the_recipes_data_is_told(here: Path, capsys: pytest.CaptureFixture,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAPET_DATA", str(here))
    assert cli.main(["train", "--recipe", "mnist"]) == 2
    assert f"mnist is not in {here}/mnist nor in {here} (MNIST/raw/" in capsys.readouterr().err


def test_the_recipes_are_listed_and_one_is_asked_for(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "--list"]) == 0
    told = capsys.readouterr().out
    assert "mnist_trades_small_cnn" in told and "eps = 8/255" in told
    assert cli.main(["train"]) == 2
    assert "--recipe is missing; give one of cifar10," in capsys.readouterr().err


def _wait_for(path: Path, run: subprocess.Popen) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end and run.poll() is None and not path.exists():
        time.sleep(0.02)
    assert run.poll() is None, f"the training ended too early with {run.returncode}"
