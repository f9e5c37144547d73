"""Gradient checks: exact results on linear models, and the verdicts of gaps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import FULL, gradient_checks
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.balls import distance
from parapet.attacks.objectives import margin
from tests.attacks.linear import far_from_the_limits


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_gradient_is_measured_against_eight_random_steps_of_its_own_length(norm: str) -> None:
    model, images, labels = far_from_the_limits()
    eps, asked = 0.2, []

    def recording(batch: Tensor) -> Tensor:
        asked.append(batch.detach().clone())
        return model(batch)
    context = AuditContext(recording, images, labels, norm, eps, None, (), FULL)
    asked.clear()
    found = gradient_checks.uphill(context)
    at_image, uphill, *rivals = asked
    assert torch.equal(at_image, images) and len(rivals) == 8
    for points in (uphill, *rivals):
        assert torch.allclose(distance(points, images, norm), torch.tensor(0.25 * eps).double(), atol=1e-6)
    start = margin(model(images), labels).detach()
    gains = torch.stack([margin(model(points), labels).detach() - start for points in (uphill, *rivals)])
    # what a linear model gains: the step times the dual norm of its weights
    dual = float(model.weight.detach().norm(p=1 if norm == "linf" else 2))
    assert torch.allclose(gains[0], torch.tensor(0.25 * eps * dual), rtol=1e-4)
    assert found["numbers"] == {"share_not_uphill": 0.0, "median_gain": pytest.approx(float(gains[0].median())),
                                "median_gain_of_the_best_random_step": pytest.approx(
                                    float(gains[1:].amax(0).median()))}
    assert found["verdict"] == "pass"


def test_random_steps_go_up_in_half_of_the_pixels_and_down_in_the_others_each_time_anew() -> None:
    model, images, labels = far_from_the_limits()
    asked = []

    def recording(batch: Tensor) -> Tensor:
        asked.append(batch.detach().clone())
        return model(batch)
    context = AuditContext(recording, images, labels, "linf", 0.2, None, (), FULL)
    asked.clear()
    gradient_checks.uphill(context)
    up = torch.stack([points > images for points in asked[2:]])
    assert abs(float(up.float().mean()) - 0.5) < 0.03  # of 4096
    assert len(torch.unique(up.reshape(8 * len(images), -1), dim=0)) > 0.95 * 8 * len(images)


def test_gradients_that_are_turned_are_beaten_everywhere() -> None:
    model, images, labels = far_from_the_limits()

    def turned(batch: Tensor) -> Tensor:
        return model(2 * batch.detach() - batch)
    found = gradient_checks.uphill(AuditContext(turned, images, labels, "linf", 0.2, None, (), FULL))
    assert found["numbers"]["share_not_uphill"] == 1.0 and found["verdict"] == "fail"


def _standing(images: int) -> Tensor:
    return torch.arange(100) < images


class _Scripted(SimpleNamespace):
    """A context of 100 images of which so many stand as is told."""

    def survivors(self, attack: object, *, model: Any, steps: int, loss: object) -> Tensor:
        points = torch.ones(3, 1, 4, 4)
        self.factors.append(float((model(points) / self.model(points)).mean()))
        return _standing(self.left[len(self.factors) - 1])

    def try_points(self, points: Tensor) -> Tensor:
        self.shares.append(float((points - self.images).abs().amax()) / self.eps)
        return ~((torch.arange(100) < self.holes) & (len(self.shares) == 4))


@pytest.mark.parametrize(("left", "verdict", "taken"), [
    ((80, 80), "pass", False), ((79, 80), "pass", False), ((85, 85), "pass", False), ((77, 80), "pass", True),
    ((80, 70), "pass", True), ((60, 80), "pass", True), ((58, 80), "pass", True), ((80, 56), "warn", False),
    ((50, 80), "fail", False), ((50, 40), "fail", False),
])
def test_logits_times_a_tenth_or_ten_break_what_the_white_box_breaks(left: tuple[int, int], verdict: str,
                                                                     taken: bool) -> None:
    """80 of 100 stand against cross-entropy on the logits as they are and 60 against the white box: from 5 points
    beyond it on they fail, from 2 they are a warning."""
    context: Any = _Scripted(model=lambda images: images.flatten(1) + 1, pgd_ce=_standing(80), white_box=_standing(60),
                           budget=FULL, left=left, factors=[])
    found = gradient_checks.scale(context)
    assert context.factors == pytest.approx([0.1, 10.0])
    assert found["verdict"] == verdict and found["advice"].startswith("Taken into account: ") == taken
    assert {name: found["numbers"][name] for name in ("accuracy_unscaled", "accuracy_times_0.1", "accuracy_times_10")
            } == pytest.approx({"accuracy_unscaled": 0.8, "accuracy_times_0.1": left[0] / 100,
                                "accuracy_times_10": left[1] / 100})


@pytest.mark.parametrize(("many", "holes", "noted"), [
    (90, 0, False), (72, 0, False), (68, 0, True), (38, 0, True), (72, 30, True), (68, 30, True), (90, 4, False),
    (90, 8, True),
])
def test_a_net_that_fools_single_steps_is_told_by_what_many_steps_or_shorter_ones_break(many: int, holes: int,
                                                                                       noted: bool) -> None:
    """90 of 100 stand against one step, `many` against many, and `holes` fall inside the single step alone. How a net
    was trained is no fault of the number: it passes with a note."""
    linear, images, labels = far_from_the_limits(100)
    context: Any = _Scripted(model=linear, images=images, labels=labels, norm="linf", eps=0.1, seeds=torch.arange(100),
                           fgsm=_standing(90), pgd_ce=_standing(90), pgd_margin=_standing(many), holes=holes, shares=[])
    found = gradient_checks.alignment(context)
    assert found["verdict"] == "pass" and found["advice"].startswith("A note on the training: ") == noted
    assert context.shares == pytest.approx([0.1, 0.25, 0.5, 0.75], rel=1e-4)
    assert found["numbers"]["fgsm_pgd_gap"] == pytest.approx((90 - many) / 100)
    assert found["numbers"]["broken_inside_the_fgsm_step_alone"] == pytest.approx(holes / 100)
    assert found["numbers"]["gradient_cosine"] == pytest.approx(1.0, abs=1e-5)  # a linear model has one direction
