"""Training: losses by hand, schedules, resuming bit for bit, failures that are results."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from parapet.attacks import evaluate, pgd_suite
from parapet.attacks.balls import distance
from parapet.config import ThreatModel, TrainingConfig
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build
from parapet.training import TrainingFailed, TrainingRun, losses, schedules, train
from parapet.training.checkpoint import peek
from parapet.training.crafting import Crafting, craft
from tests.conftest import train_digits

SMALL = Genome(width=4, depth=1, loss="pgd", steps=1, learning_rate=0.2)


class _Fixed(nn.Module):
    """Logits that are the image's first two pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :2]


CLEAN = torch.tensor([[[[1.0, 0.0]]]])
ADVERSARIAL = torch.tensor([[[[0.0, 1.0]]]])
LABEL = torch.tensor([0])
CE_RIGHT, CE_WRONG = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))


def test_the_standard_loss_is_cross_entropy() -> None:
    loss, _ = losses.standard(_Fixed(), CLEAN, LABEL)
    assert float(loss) == pytest.approx(CE_RIGHT, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_pgd_training_mixes_the_two_cross_entropies(share: float) -> None:
    loss, _ = losses.pgd_training(_Fixed(), CLEAN, LABEL, ADVERSARIAL, clean_share=share)
    assert float(loss) == pytest.approx((1 - share) * CE_WRONG + share * CE_RIGHT, rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_trades_by_hand(beta: float) -> None:
    p = math.exp(1) / (1 + math.exp(1))
    divergence = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    loss, pieces = losses.trades(_Fixed(), CLEAN, LABEL, ADVERSARIAL, beta=beta)
    assert float(loss) == pytest.approx(CE_RIGHT + beta * divergence, rel=1e-5)
    assert float(pieces["divergence"]) == pytest.approx(divergence, rel=1e-5)


def test_the_learning_rate_rises_to_its_peak_and_falls() -> None:
    rates = [schedules.one_cycle(step, 100, 0.4) for step in range(101)]
    assert max(rates) == pytest.approx(0.4) and rates.index(max(rates)) == 30
    assert rates[0] == pytest.approx(0.4 / 25) and rates[-1] < 1e-5
    assert rates[:31] == sorted(rates[:31]) and rates[30:] == sorted(rates[30:], reverse=True)


def test_the_radius_ramps_over_its_share() -> None:
    assert [schedules.ramp(step, 10, 0.4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert schedules.ramp(0, 10, 0.0) == 1.0


@pytest.mark.parametrize("crafting", [Crafting(), Crafting(steps=3), Crafting(divergence=True), Crafting("fgsm")])
def test_crafted_images_lie_in_the_ball_and_leave_batch_norm_alone(crafting: Crafting) -> None:
    network = build(Genome(), (1, 8, 8), 10, generator=torch.Generator().manual_seed(0)).train()
    before = network.stem[1].norm.running_mean.clone()
    images = torch.rand(8, 1, 8, 8)
    found = craft(network, images, torch.arange(8), crafting, 0.1, "linf", torch.arange(8))
    assert (distance(found, images, "linf") <= 0.1).all() and not torch.equal(found, images)
    assert network.training and torch.equal(network.stem[1].norm.running_mean, before)


def _train(digits, genome: Genome = SMALL, epochs: int = 4, path: Path | None = None, compile: bool = False, **options):
    config = TrainingConfig(epochs=epochs, validate_every=2, validation_steps=1, checkpoint_seconds=0.0,
                            compile=compile, validation_images=60)
    return train(TrainingRun.of(genome, digits, images=200, config=config, threat=ThreatModel(eps=0.2), seed=7,
                                checkpoint=path, **options))


class _Killed(Exception):
    pass


@pytest.mark.parametrize("genome", [SMALL, Genome(width=4, depth=1, backbone="residual", denoiser="gaussian", steps=1)])
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(digits, tmp_path: Path, genome: Genome,
                                                              killed_after: int) -> None:
    torch.set_num_threads(1)
    path = tmp_path / "checkpoint.safetensors"

    def kill(epoch: int, epochs: int, metrics: dict) -> None:
        if epoch == killed_after + 1:
            raise _Killed

    undisturbed = _train(digits, genome)
    with pytest.raises(_Killed):
        _train(digits, genome, path=path, progress=kill)
    epochs: list[int] = []
    resumed = _train(digits, genome, path=path, progress=lambda epoch, *rest: epochs.append(epoch))
    assert epochs == list(range(killed_after + 1, 5))
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    strip = [{key: value for key, value in row.items() if key != "time"} for row in undisturbed.curves]
    assert strip == [{key: value for key, value in row.items() if key != "time"} for row in resumed.curves]
    assert undisturbed.best_epoch == resumed.best_epoch


def test_killed_in_ten_random_batches_it_goes_on_to_the_same_weights(digits, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    path, moments, kills = tmp_path / "checkpoint.safetensors", random.Random(3), 0

    def dies_in(turns: int) -> Callable[[], AbstractContextManager]:
        @contextmanager
        def turn() -> Iterator[None]:
            nonlocal turns
            turns -= 1
            if turns < 0:
                raise _Killed
            yield
        return turn

    while kills < 10:
        with pytest.raises(_Killed):
            _train(digits, epochs=12, path=path, turn=dies_in(moments.randint(0, 8)))
        kills += 1
    assert 1 <= peek(path)[0]["epoch"] < 12
    resumed, undisturbed = _train(digits, epochs=12, path=path), _train(digits, epochs=12)
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_another_run_s_checkpoint_and_a_torn_one_are_not_taken_up(digits, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    first = _train(digits, epochs=2, path=path)
    path.write_bytes(path.read_bytes()[:-100])
    again = _train(digits, epochs=2, path=path)
    other = _train(digits, Genome(width=8, depth=1, loss="pgd", steps=1), epochs=2, path=path)
    assert torch.equal(first.network.head[2].weight, again.network.head[2].weight)
    assert len(other.curves) == 2


def test_numbers_that_go_bad_are_a_failure_with_its_place(digits) -> None:
    wild = Genome(width=4, depth=1, loss="pgd", steps=1, learning_rate=10.0, weight_decay=1.0)
    config = TrainingConfig(epochs=2, gradient_clip=0.0, validation_images=20)
    run = TrainingRun.of(wild, digits, images=200, config=config, threat=ThreatModel(eps=0.2), seed=7)
    with pytest.raises(TrainingFailed, match="the loss was not finite in epoch 1 of 2"):
        train(replace(run, mean=torch.tensor([float("nan")])))


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_plain_one_does(digits) -> None:
    """One epoch: sums are ordered otherwise, which moves weights by less than a thousandth."""
    plain, compiled = (_train(digits, epochs=1, compile=chosen).network for chosen in (False, True))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-3, atol=1e-3)


def test_a_compiled_network_has_no_gradient_of_a_gradient(digits) -> None:
    genome = replace(SMALL, input_gradient=1.0)
    with pytest.raises(InputError, match="training.compile is true, and input_gradient needs the gradient"):
        _train(digits, genome, epochs=1, compile=True)


def test_the_curves_say_what_was_used(digits) -> None:
    trained = _train(digits, Genome(width=4, depth=1, loss="trades", trades_beta=2.0, steps=1))
    assert [row["epoch"] for row in trained.curves] == [1, 2, 3, 4]
    assert {"loss", "clean_loss", "divergence", "learning_rate", "training_eps", "time"} <= set(trained.curves[0])
    assert "validation_robust_accuracy" in trained.curves[1] and "validation_robust_accuracy" not in trained.curves[0]
    assert trained.curves[-1]["training_eps"] == pytest.approx(0.2)
    assert trained.training_flops > 0 and trained.best_epoch in (2, 4)


@pytest.mark.parametrize("loss", ["pgd", "trades"])
def test_adversarial_training_beats_standard_training_by_thirty_points(digits, undefended, loss: str) -> None:
    genome = Genome(width=8, depth=2, activation="silu", loss=loss, steps=2, learning_rate=0.4)
    trained = train_digits(digits, genome, 6)
    images, labels = digits.split("test").all()
    robust = [evaluate(network, images, labels, norm="linf", eps=0.2, generator=torch.Generator().manual_seed(0),
                       suite=pgd_suite(pgd_steps=20, pgd_restarts=1))["robust_accuracy"]
              for network in (undefended.network, trained.network)]
    assert robust[1] >= robust[0] + 0.3
