"""Honestly trained networks of many kinds do not fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from parapet.attacks import audit
from parapet.config import DataPrepConfig
from parapet.data import dataset, sources, splits
from parapet.data.dataset import Dataset
from tests.attacks.audit.training import HONEST_DIGITS, HONEST_MNIST, trained


def _report(network, data: Dataset, surrogate=None) -> dict:
    images, labels = data.split("test", limit=100).all()
    return audit(network, images, labels, norm="linf", eps=0.2, generator=torch.Generator().manual_seed(0),
                 surrogates=[surrogate] if surrogate else [])


@pytest.mark.parametrize("kind", HONEST_DIGITS)
def test_no_honest_net_on_the_digits_fails(kind: str, digits, undefended) -> None:
    result = _report(trained(digits, *HONEST_DIGITS[kind]), digits, undefended.network)
    assert result["verdict"] != "fail", [check for check in result["checks"] if check["verdict"] == "fail"]


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = Path(os.environ.get("PARAPET_DATA", "nowhere"))
    if not (folder / "MNIST").is_dir():
        pytest.skip("needs MNIST in torchvision's layout in the folder PARAPET_DATA")
    source = sources.load("mnist", folder)
    out = tmp_path_factory.mktemp("mnist") / "dataset"
    dataset.write(out, source, splits.split(source, DataPrepConfig(limit_train=5000, limit_test=200), seed=0))
    return Dataset.open(out)


@pytest.mark.parametrize("kind", HONEST_MNIST)
def test_no_honest_net_on_mnist_fails(kind: str, mnist: Dataset) -> None:
    result = _report(trained(mnist, *HONEST_MNIST[kind]), mnist)
    assert result["verdict"] != "fail", [check for check in result["checks"] if check["verdict"] == "fail"]
