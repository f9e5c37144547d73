"""Gradient-free checks: what counts as broken, and the report if an attack could not run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import AuditBudget, audit, gradient_free_checks
from parapet.attacks.audit.context import AuditContext
from tests.attacks.linear import Linear, far_from_the_limits

FEW = AuditBudget(pgd_steps=1, restarts=1, targeted_steps=1, targets=1, square_queries=1, decision_queries=200,
                  decision_images=6, noise_draws=1)


def _wrong_at(pixel: float) -> Callable[[Tensor], Tensor]:
    """Class 0 but where the first pixel is `pixel` exactly; no gradient tells."""
    def model(images: Tensor) -> Tensor:
        hit = (images[:, 0, 0, 0] == pixel).float()
        return torch.stack([1 - hit, hit], 1)
    return model


@pytest.mark.parametrize(("pixel", "verdict", "stands"), [(0.75, "fail", 1 / 3), (0.875, "pass", 1.0)])
def test_a_point_of_hop_skip_jump_counts_up_to_the_very_edge_of_the_ball(monkeypatch, pixel: float, verdict: str,
                                                                         stands: float) -> None:
    """Eight of twelve images from 0.5 to `pixel`: to the edge of the ball of radius a quarter, or out of it."""
    asked, others = [], []

    def decision(model: object, images: Tensor, labels: Tensor, *, norm: str, queries: int,
                 generator: Tensor) -> tuple[Tensor, Tensor]:
        asked.append((len(images), norm, queries, generator))
        points = images.clone()
        points[:, 0, 0, 0] = pixel
        return points, torch.zeros(len(images))
    monkeypatch.setattr(gradient_free_checks, "hop_skip_jump", decision)

    def square(model: object, images: Tensor, labels: Tensor, *, generator: Tensor, **options: object) -> Tensor:
        others.append(generator)
        return images
    monkeypatch.setattr(gradient_free_checks, "square", square)
    images, labels = torch.full((12, 1, 2, 2), 0.5), torch.zeros(12, dtype=torch.int64)
    context = AuditContext(_wrong_at(pixel), images, labels, "linf", 0.25, None, (), replace(FEW, decision_images=8))
    context.__dict__["white_box"] = torch.ones(12, dtype=torch.bool)  # the white box has broken nothing
    found = gradient_free_checks.black_box(context)
    assert found["numbers"]["with_square"] == 1.0 and found["numbers"]["decision_images"] == 8
    assert found["numbers"]["with_both"] == pytest.approx(stands) and found["verdict"] == verdict
    count, norm, queries, seeds = asked[0]
    assert (count, norm, queries) == (8, "linf", 200)
    assert len(others[0]) == 12 and not torch.isin(seeds, others[0]).any()  # noise of its own


def test_a_transfer_that_could_not_be_run_is_a_warning_that_says_so() -> None:
    model, images, labels = far_from_the_limits(6)
    check, = audit(model, images, labels, norm="linf", eps=0.1, checks=["transfer"], limits=FEW)["checks"]
    assert check["verdict"] == "warn" and check["numbers"] == {"surrogates": 0}
    assert check["advice"].startswith("Not run, because no surrogate model was given")


def test_a_transfer_is_judged_by_the_images_that_it_breaks() -> None:
    """A model without a gradient stands against the white box and falls to the images of its twin that has one."""
    twin, images, labels = far_from_the_limits(12)
    eps = 1.5 * float(twin.exact_distances(images, "linf").max())

    def hidden(batch: Tensor) -> Tensor:
        return twin(batch.detach()).detach()
    contexts = [AuditContext(hidden, images, labels, "linf", eps, None, surrogates, FEW)
              for surrogates in ((twin,), (Linear(torch.zeros(16), 1.0), Linear(torch.zeros(16), -1.0)))]
    for context in contexts:
        context.__dict__["white_box"] = torch.ones(12, dtype=torch.bool)
    found, useless = (gradient_free_checks.transfer(context) for context in contexts)
    assert found["numbers"] == {"white_box": 1.0, "with_transfer": 0.0, "surrogates": 1, "gap": 1.0,
                                "p_value": pytest.approx(2.0**-12)}
    assert found["verdict"] == "fail"
    assert useless["numbers"]["surrogates"] == 2 and useless["numbers"]["with_transfer"] == 1.0
    assert useless["verdict"] == "pass"


def test_each_kind_of_noise_meets_what_the_white_box_left_with_draws_of_its_own(monkeypatch) -> None:
    given = {}

    def noise(model: object, images: Tensor, labels: Tensor, *, kind: str, draws: int, generator: Tensor,
              **options: object) -> Tensor:
        given[kind] = (len(images), draws, generator)
        points = images.clone()
        points[:4 if kind == "uniform" else 1, 0, 0, 0] = 0.75
        return points
    monkeypatch.setattr(gradient_free_checks, "random_noise", noise)
    images, labels = torch.full((12, 1, 2, 2), 0.5), torch.zeros(12, dtype=torch.int64)
    context = AuditContext(_wrong_at(0.75), images, labels, "linf", 0.25, None, (), replace(FEW, noise_draws=7))
    context.__dict__["white_box"] = torch.arange(12) >= 2  # so that the last ten are attacked
    numbers = gradient_free_checks.noise(context)["numbers"]
    assert {name: numbers[name] for name in ("white_box", "with_uniform", "with_corner", "draws")} == pytest.approx(
        {"white_box": 10 / 12, "with_uniform": 6 / 12, "with_corner": 9 / 12, "draws": 7})
    assert [given[kind][:2] for kind in ("uniform", "corner")] == [(10, 7), (10, 7)]
    assert not torch.isin(given["uniform"][2], given["corner"][2]).any()
