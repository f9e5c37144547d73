"""Output checks: when the model counts as having memorised its images, and single draws of random models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import Eot
from parapet.attacks.audit import FULL, AuditBudget, audit, output_checks

SHAPE = (1, 4, 6)


def _bright(images: Tensor) -> Tensor:
    """Class 1 where the first pixel is bright."""
    value = images[:, 0, 0, 0] - 0.5
    return torch.stack([-value, value], 1)


def _context(count: int) -> Any:
    """`count` images of class 1, all of which survive PGD: one pair fewer than images."""
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = 0.9
    return SimpleNamespace(model=_bright, images=images, labels=torch.ones(count, dtype=torch.int64), norm="linf",
                           eps=0.05, seeds=torch.arange(count), budget=FULL,
                           pgd_margin=torch.ones(count, dtype=torch.bool))


def _breaking(monkeypatch: pytest.MonkeyPatch, broken: dict[int, int]) -> list[Tensor]:
    """Let PGD break the first broken[n] images at its n-th call; returns what it is given, call after call."""
    given: list[Tensor] = []

    def attack(model: object, images: Tensor, labels: Tensor, **options: object) -> Tensor:
        points = images.clone()
        points[:broken[len(given)], 0, 0, 0] = 0.1
        given.append(images)
        return points
    monkeypatch.setattr(output_checks, "pgd", attack)
    return given


@pytest.mark.parametrize(("means", "halves", "verdict"), [
    (0, 0, "pass"), (8, 40, "pass"), (12, 8, "pass"), (12, 12, "warn"), (12, 20, "warn"), (20, 12, "warn"),
    (20, 20, "fail"), (40, 40, "fail"),
])
def test_a_model_is_suspected_where_both_kinds_of_mixtures_fall(monkeypatch, means: int, halves: int,
                                                                verdict: str) -> None:
    """Of 40 mixtures, where the images themselves all stand: a quarter clears, more warns, more than 0.4 fails."""
    _breaking(monkeypatch, {0: means, 1: halves})
    found = output_checks.memory(_context(41))
    assert found["verdict"] == verdict
    assert found["numbers"]["gap_means"] == pytest.approx(means / 40)
    assert found["numbers"]["p_value_means"] == pytest.approx(2.0**-means)


def test_images_that_only_their_mixtures_survive_speak_against_a_difference(monkeypatch) -> None:
    """25 fell as mixtures alone and 4 as images alone: p = sum of C(29, k) from 25 on, over 2**29."""
    _breaking(monkeypatch, {0: 25, 1: 25})
    context = _context(41)
    context.pgd_margin[36:40] = False
    found = output_checks.memory(context)
    assert found["numbers"]["p_value_means"] == pytest.approx((23751 + 3654 + 406 + 29 + 1) / 2**29)
    assert found["numbers"]["gap_means"] == pytest.approx(21 / 40) and found["verdict"] == "fail"


def test_a_mixture_is_the_mean_of_neighbours_in_a_class_or_the_left_half_of_one_and_the_right_of_the_other(
        monkeypatch) -> None:
    given = _breaking(monkeypatch, {0: 40, 1: 40})
    context = _context(41)
    output_checks.memory(context)
    means, halves = given
    assert len(means) == len(halves) == 40
    for row in range(40):
        one, other = context.images[row], context.images[row + 1]
        assert torch.allclose(means[row], (one + other) / 2)
        assert torch.equal(halves[row, ..., :3], one[..., :3]) and torch.equal(halves[row, ..., 3:], other[..., 3:])


class Lottery(nn.Module):
    """Of each image a share of the draws is an undefended network's, which the robust one's large logits drown."""

    attacked_through = "eot"

    def __init__(self, weak: nn.Module, strong: nn.Module, share: float) -> None:
        super().__init__()
        self.weak, self.strong, self.share = weak, strong, share

    def forward(self, images: Tensor) -> Tensor:
        drawn = torch.rand(len(images), 1) < self.share
        return torch.where(drawn, self.weak(images), 20 * self.strong(images))


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "fail"), (0.02, "warn")])
def test_single_draws_of_a_random_model_must_stand_as_its_mean_does(undefended, honest, digits, share: float,
                                                                    verdict: str) -> None:
    images, labels = digits.split("validation", limit=40).all()
    model = Eot(Lottery(undefended.network, honest.network, share), draws=8)
    limits = AuditBudget(pgd_steps=10, copied_images=40)
    checks = audit(model, images, labels, norm="linf", eps=0.2, checks=["margin", "well_formed"], limits=limits,
                   generator=torch.Generator().manual_seed(0))["checks"]
    found = next(check for check in checks if check["id"] == "well_formed")
    assert found["verdict"] == verdict and (model.draws, model.evenly) == (8, False)
    gap = found["numbers"]["mean_of_draws"] - found["numbers"]["single_draws"]
    assert gap > 0.1 if verdict == "fail" else gap < 0.1


@pytest.mark.parametrize(("pairs", "known"), [(14, False), (15, True), (20, True)])
def test_fewer_than_fifteen_mixtures_tell_nothing(monkeypatch, pairs: int, known: bool) -> None:
    given = _breaking(monkeypatch, {0: pairs, 1: pairs})
    found = output_checks.memory(_context(pairs + 1))
    assert found["numbers"]["means"] == found["numbers"]["halves"] == pairs
    assert found["verdict"] == ("fail" if known else "pass") and bool(given) == known
