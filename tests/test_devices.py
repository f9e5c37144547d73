"""Which devices the workers get, with and without cards."""

from __future__ import annotations

import pytest

from parapet import devices
from parapet.cores import cpu_count
from parapet.errors import InputError


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two cards."""
    monkeypatch.setattr(devices, "_cuda_devices", lambda: 2)


def _nobody(card: str) -> int:
    raise AssertionError("asked")


def test_on_the_cpu_the_threads_of_all_workers_fill_the_cores() -> None:
    assert devices.resolve("cpu", workers=None, threads=1, per_card=_nobody) == ["cpu"] * cpu_count()
    assert devices.resolve("cpu", workers=3, threads=1) == ["cpu"] * 3


@pytest.mark.usefixtures("two_cards")
def test_automatic_workers_share_each_card_as_many_times_as_it_is_worth() -> None:
    assert devices.resolve("auto", workers=None, threads=1) == ["cuda:0", "cuda:1"]
    asked: list[str] = []
    found = devices.resolve("cuda", workers=None, threads=1, per_card=lambda card: asked.append(card) or 3)
    assert found == ["cuda:0", "cuda:1"] * 3 and asked == ["cuda:0"]
    assert devices.resolve("cuda:1", workers=None, threads=1, per_card=lambda card: 2) == ["cuda:1"] * 2


@pytest.mark.usefixtures("two_cards")
def test_workers_that_are_given_are_not_timed() -> None:
    assert devices.resolve("cuda", workers=3, threads=1, per_card=_nobody) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices.resolve("cuda:0", workers=2, threads=1, per_card=_nobody) == ["cuda:0"] * 2


@pytest.mark.usefixtures("two_cards")
def test_a_card_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match=r"device is 'cuda:2', but this machine has 2 CUDA devices"):
        devices.resolve("cuda:2", workers=None, threads=1)


def test_where_cards_train_together_a_worker_has_several_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cuda_devices", lambda: 5)
    assert devices.resolve("cuda", workers=None, threads=1, per_card=_nobody, together=2) == ["cuda:0", "cuda:2"]
    # More workers than groups of cards would share them, and wait for each other inside every step.
    assert devices.resolve("auto", workers=8, threads=1, together=2) == ["cuda:0", "cuda:2"]
    assert devices.resolve("cuda:3", workers=None, threads=1, together=2) == ["cuda:3"]
    assert devices.resolve("cpu", workers=None, threads=1, together=2) == ["cpu"] * max(1, cpu_count() // 2)
    for device, rest in (("cuda:4", "from cuda:4 on this machine has 1 of its 5"), ("cuda", "")):
        with pytest.raises(InputError, match=f"training.gpus is 6, but .*{rest}"):
            devices.resolve(device, workers=None, threads=1, together=6)
