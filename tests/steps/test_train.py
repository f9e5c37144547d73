"""One training from a recipe: killed it ends in the same weights, failed it keeps its best; it guards its folder."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from parapet.disk import sealed
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.models import load
from parapet.steps import train
from parapet.training import TrainingFailed, loop
from parapet.training.recipes import load_recipe

CHANGES = ("training.epochs=3", "training.validation_images=60", "training.validation_steps=2", "genome.width=4",
           "genome.depth=1", "genome.steps=1")


class _Killed(Exception):
    pass


class _Rows(train.Watcher):
    """Keeps what it is told, and dies when it is told of an epoch."""

    def __init__(self, killed_in: int = 0) -> None:
        self.killed_in, self.rows, self.places, self.went_on = killed_in, [], [], []

    def goes_on(self, epoch: int) -> None:
        self.went_on.append(epoch)

    def moved(self, done: float, text: str) -> None:
        self.places.append((done, text))

    def finished_epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if row["epoch"] == self.killed_in:
            raise _Killed


def _run(folder: Path, out: Path, *changes: str, seed: int = 0, watcher: train.Watcher | None = None) -> dict[str, Any]:
    torch.set_num_threads(1)
    return train.run(load_recipe("digits", (*CHANGES, *changes)), folder, out, seed=seed, watcher=watcher)


@pytest.fixture(scope="module")
def finished(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("finished")
    _run(digits_folder, out)
    return out


def _weights(out: Path) -> dict[str, torch.Tensor]:
    return load(out / train.WEIGHTS).state_dict()


@pytest.mark.parametrize("killed_in", [2, 3])
def test_a_killed_run_ends_in_the_same_weights_bit_for_bit(digits_folder: Path, finished: Path, tmp_path: Path,
                                                           killed_in: int) -> None:
    with pytest.raises(_Killed):
        _run(digits_folder, tmp_path, watcher=_Rows(killed_in))
    assert (tmp_path / train.CHECKPOINT).exists() and read_json(tmp_path / train.RECORD)["status"] == "running"
    watcher = _Rows()
    result = _run(digits_folder, tmp_path, watcher=watcher)
    assert watcher.went_on == [killed_in - 1]
    assert [row["epoch"] for row in watcher.rows] == list(range(killed_in, 4))
    expected, found = _weights(finished), _weights(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected) and expected.keys() == found.keys()
    undisturbed = read_json(finished / train.RECORD)
    for name in ("run", "best_epoch", "validation", "training_flops", "flops", "params", "collapses"):
        assert result[name] == undisturbed[name], name
    assert not (tmp_path / train.CHECKPOINT).exists()


def test_a_finished_run_is_reported_and_not_repeated(digits_folder: Path, finished: Path) -> None:
    before = (finished / train.WEIGHTS).stat().st_mtime_ns
    watcher = _Rows()
    result = _run(digits_folder, finished, watcher=watcher)
    assert result == read_json(finished / train.RECORD) and result["status"] == "done" and watcher.rows == []
    assert (finished / train.WEIGHTS).stat().st_mtime_ns == before
    assert result["validation"]["robust_accuracy"] == max(row["validation_robust_accuracy"] for row in result["curves"])


def test_progress_counts_parts_of_epochs(digits_folder: Path, tmp_path: Path) -> None:
    watcher = _Rows()
    _run(digits_folder, tmp_path, "training.epochs=2", watcher=watcher)
    done = [place for place, _ in watcher.places]
    assert done == sorted(done) and done[-1] == 2.0
    assert watcher.places[0] == (1 / 17, "epoch 1, batch 1 of 16")
    assert watcher.places[16] == (1.0, "epoch 1, validation")
    assert all(row["images_per_second"] > 0 and row["epochs"] == 2 for row in watcher.rows)


@pytest.mark.parametrize(("changes", "seed", "sentence"), [
    (("genome.width=8",), 0, "it differs in genome.width (4 there, 8 here); give another folder with --out."),
    ((), 5, "it differs in seed (0 there, 5 here)"),
    (("threat.eps=0.1",), 0, "it differs in threat.eps (0.2 there, 0.1 here)"),
    (("training.epochs=4", "training.batch_size=32", "genome.width=8", "genome.loss=trades", "genome.steps=2"), 0,
     "it differs in genome.width (4 there, 8 here), genome.loss (pgd there, trades here), genome.trades_beta (0.0 "
     "there, 4.0 here), genome.steps (1 there, 2 here) and 2 more;"),
])
def test_another_runs_folder_is_refused_and_left_alone(digits_folder: Path, finished: Path, changes: tuple[str, ...],
                                                       seed: int, sentence: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir() if path.suffix != ".lock"}
    with pytest.raises(InputError) as caught:
        _run(digits_folder, finished, *changes, seed=seed)
    assert str(caught.value).startswith(f"{finished} holds another run: {sentence}")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_data_are_refused(digits_folder: Path, finished: Path, tmp_path: Path) -> None:
    other = shutil.copytree(digits_folder, tmp_path / "dataset")
    sealed.write(other / "dataset.json", {**read_json(other / "dataset.json"), "fingerprint": "0" * 64})
    with pytest.raises(InputError, match=r"it differs in fingerprint \(\w{12} there, 000000000000 here\)"):
        _run(other, finished)


def test_files_from_elsewhere_are_not_overwritten(digits_folder: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / train.WEIGHTS, tmp_path)
    with pytest.raises(InputError, match=r"holds model.safetensors and no train.json, so it is not from this command"):
        _run(digits_folder, tmp_path)
    (tmp_path / train.RECORD).write_text("{")
    with pytest.raises(InputError, match="train.json is damaged or from another version of Parapet"):
        _run(digits_folder, tmp_path)


def test_a_second_run_in_the_same_folder_is_refused(digits_folder: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / "train.lock"), pytest.raises(InputError, match="a training is already running in"):
        _run(digits_folder, tmp_path)


@pytest.mark.parametrize(("changes", "sentence"), [
    (("training.batch_size=5000",), "training.batch_size is 5000, and there are 1079 training images; choose a batch"),
    (("genome.backbone=small_cnn",), "images of 8x8 pixels are too small for small_cnn; the smallest allowed size is"),
    (("genome.denoiser=mean", "genome.denoiser_stage=4"), "denoiser_stage is 4, and the backbone plain has 2 stages"),
    (("threat.norm=l2", "threat.eps=9"), "threat.eps is 9, but no two images of 1x8x8 pixels are further apart than 8"),
])
def test_what_does_not_fit_the_data_is_refused_and_leaves_the_folder_free(
        digits_folder: Path, tmp_path: Path, changes: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        _run(digits_folder, tmp_path, *changes)
    assert str(caught.value).startswith(sentence)
    assert {path.name for path in tmp_path.iterdir()} <= {"train.lock"}


def _bad_from(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of this epoch is not a number."""
    honest = loop.train_epoch

    def epochs(*arguments):
        metrics = honest(*arguments)
        return {**metrics, "loss": math.nan} if arguments[-1] + 1 == epoch else metrics
    monkeypatch.setattr(loop, "train_epoch", epochs)


def test_numbers_that_go_bad_leave_the_best_epoch(digits_folder: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    _bad_from(3, monkeypatch)
    with pytest.raises(TrainingFailed) as caught:
        _run(digits_folder, tmp_path)
    best = read_json(tmp_path / train.RECORD)["best_epoch"]
    assert str(caught.value) == (
        f"the loss was not finite in epoch 3 of 3 (learning rate 0.4); epoch {best} had been the best; the weights of "
        f"epoch {best} are restored to {tmp_path / train.WEIGHTS}, and for another try lower genome.learning_rate and "
        "give another folder with --out.")
    record = read_json(tmp_path / train.RECORD)
    assert record["status"] == "failed" and record["reason"].startswith("the loss was not finite in epoch 3")
    assert [row["epoch"] for row in record["curves"]] == [1, 2]
    monkeypatch.undo()
    with pytest.raises(_Killed):
        _run(digits_folder, tmp_path, watcher=_Rows(killed_in=3))
    meanwhile = read_json(tmp_path / train.RECORD)
    assert (meanwhile["status"], meanwhile["reason"]) == ("running", None)
    again = _run(digits_folder, tmp_path)
    assert again["status"] == "done" and len(again["curves"]) == 3


def test_numbers_that_go_bad_at_once_say_so(digits_folder: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    _bad_from(1, monkeypatch)
    with pytest.raises(TrainingFailed, match="in epoch 1 of 3 .* there is no epoch to go back to, so lower genome.lea"):
        _run(digits_folder, tmp_path)
    assert not (tmp_path / train.RECORD).exists()
