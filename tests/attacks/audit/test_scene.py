"""What counts as broken in an audit, and what it spends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import FULL, AuditBudget
from parapet.attacks.audit.scene import Scene


def _dark(images: Tensor) -> Tensor:
    """Class 0 where the first pixel is below 0.7, else class 1."""
    value = images[:, 0, 0, 0] - 0.7
    return torch.stack([-value, value], 1)


def test_what_an_audit_spends_by_default() -> None:
    """PGD as in the search's suite, ten restarts, A3 as it comes, three targets, a thousand of each query."""
    assert AuditBudget() == FULL == AuditBudget(pgd_steps=40, restarts=10, rounds=None, targeted_steps=50, targets=3,
                                                square_queries=1000, decision_queries=1000, decision_images=50,
                                                noise_draws=1000)


def test_broken_is_what_is_wrong_and_inside_the_ball_and_the_box() -> None:
    images, labels = torch.full((6, 1, 1, 2), 0.5), torch.tensor([0, 0, 0, 0, 0, 1])  # the last is wrong already
    scene = Scene(_dark, images, labels, "linf", 0.25, None, (), FULL)
    points = torch.tensor([[0.625, 0.5], [0.75, 0.5], [0.875, 0.5], [0.75, 0.125], [0.75, 0.25]]).reshape(5, 1, 1, 2)
    assert scene.judge(points).tolist() == [True, False, True, True, False]
    assert scene.survivors() == "101100"
    expected = images.clone()
    expected[[1, 4]] = points[[1, 4]]
    assert torch.equal(scene.adversarial(images), expected)


@pytest.mark.parametrize("pixel", [1.0625, -0.0625])
def test_a_point_outside_the_box_breaks_nothing(pixel: float) -> None:
    images, labels = torch.tensor([[[[0.5, round(pixel)]]]]).float(), torch.tensor([0])
    scene = Scene(_dark, images, labels, "linf", 0.25, None, (), FULL)
    assert scene.judge(torch.tensor([[[[0.75, pixel]]]])).tolist() == [True]
    assert scene.judge(torch.tensor([[[[0.75, float(round(pixel))]]]])).tolist() == [False]


def test_the_first_point_that_broke_an_image_is_kept_and_larger_radii_break_nothing_for_good() -> None:
    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    scene = Scene(_dark, images, labels, "linf", 0.25, None, (), FULL)
    far, first, second = (torch.tensor([[[[pixel, 0.5]]]]) for pixel in (1.0, 0.75, 0.71875))
    assert scene.judge(far, 0.5).tolist() == [False] and scene.survivors() == "1"
    assert scene.judge(first).tolist() == scene.judge(second).tolist() == [False]
    assert scene.survivors() == "0" and torch.equal(scene.adversarial(images), first)
