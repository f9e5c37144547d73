"""What several rooms' tests share: the digits, prepared, and one network trained on them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from parapet.config import DataPrepConfig, ThreatModel, TrainingConfig
from parapet.data import dataset, splits
from parapet.data.sources import Source
from parapet.genome import Genome
from parapet.training import Trained, TrainingRun, train
from tests.finished_search import finish
from tests.in_process import InProcess
from tests.shared import unchanged

DIGITS_EPS = 0.2


@pytest.fixture(scope="session", autouse=True)
def _tests_outlive_commands() -> Iterator[None]:
    """Signal handlers and watchers belong to the process of a command, not to that of the tests which call it.

    What whoever runs the tests ignores (nohup SIGHUP, a shell SIGINT in the background) commands would ignore too.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parapet.cli.end_with_parent", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _verbs_without_children() -> Iterator[None]:
    """A verb's child would start torch anew in some hundred tests; tests/cli/test_child.py has the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parapet.processes.child.Workers", InProcess)
        yield


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The UCI digits as a prepared data set."""
    digits = load_digits()
    source = Source(name="digits", images=digits.images.astype("uint8")[:, None], labels=digits.target.astype("int64"),
                    test_images=None, test_labels=None, levels=16, classes=tuple("0123456789"))
    folder = tmp_path_factory.mktemp("digits") / "dataset"
    dataset.write(folder, source, splits.split(source, DataPrepConfig(), seed=0))
    yield from unchanged(folder)


@pytest.fixture(scope="session")
def digits(digits_folder: Path) -> dataset.Dataset:
    """The prepared digits, opened."""
    return dataset.Dataset.open(digits_folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artifacts of a finished search with a small member, 92 % clean, and a large one, much more robust."""
    yield from unchanged(finish(tmp_path_factory.mktemp("finished")))


def train_digits(digits: dataset.Dataset, genome: Genome, epochs: int) -> Trained:
    """`genome` trained on the digits at L-inf 0.2, on one thread."""
    torch.set_num_threads(1)
    return train(TrainingRun.of(genome, digits, config=TrainingConfig(epochs=epochs),
                                threat=ThreatModel(eps=DIGITS_EPS), seed=1))


@pytest.fixture(scope="session")
def honest(digits: dataset.Dataset) -> Trained:
    """A small network, adversarially trained for a few seconds: about 60 % robust."""
    return train_digits(digits, Genome(width=8, depth=2, activation="silu", loss="pgd", steps=2, learning_rate=0.4), 8)


@pytest.fixture(scope="session")
def undefended(digits: dataset.Dataset) -> Trained:
    """The same network trained without attacks: about 0 % robust."""
    return train_digits(digits, Genome(width=8, depth=2, activation="silu", loss="standard"), 8)
