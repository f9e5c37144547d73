"""Which points count as broken in an audit, and how much work it does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import FULL, AuditBudget, audit
from parapet.attacks.audit.context import AuditContext, state_digest


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
    context = AuditContext(_dark, images, labels, "linf", 0.25, None, (), FULL)
    points = torch.tensor([[0.625, 0.5], [0.75, 0.5], [0.875, 0.5], [0.75, 0.125], [0.75, 0.25]]).reshape(5, 1, 1, 2)
    assert context.try_points(points).tolist() == [True, False, True, True, False]
    assert context.survival_string() == "101100"
    expected = images.clone()
    expected[[1, 4]] = points[[1, 4]]
    assert torch.equal(context.adversarial(images), expected)


@pytest.mark.parametrize("pixel", [1.0625, -0.0625])
def test_a_point_outside_the_box_breaks_nothing(pixel: float) -> None:
    images, labels = torch.tensor([[[[0.5, round(pixel)]]]]).float(), torch.tensor([0])
    context = AuditContext(_dark, images, labels, "linf", 0.25, None, (), FULL)
    assert context.try_points(torch.tensor([[[[0.75, pixel]]]])).tolist() == [True]
    assert context.try_points(torch.tensor([[[[0.75, float(round(pixel))]]]])).tolist() == [False]


def test_the_first_point_that_broke_an_image_is_kept_and_larger_radii_break_nothing_for_good() -> None:
    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    context = AuditContext(_dark, images, labels, "linf", 0.25, None, (), FULL)
    far, first, second = (torch.tensor([[[[pixel, 0.5]]]]) for pixel in (1.0, 0.75, 0.71875))
    assert context.try_points(far, 0.5).tolist() == [False] and context.survival_string() == "1"
    assert context.try_points(first).tolist() == context.try_points(second).tolist() == [False]
    assert context.survival_string() == "0" and torch.equal(context.adversarial(images), first)


def test_what_another_way_of_asking_gets_wrong_counts_inside_the_ball_alone() -> None:
    """Three images are asked about otherwise: one falls inside the ball, one outside of it, and one stands."""
    images, labels = torch.full((4, 1, 1, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    context = AuditContext(_dark, images, labels, "linf", 0.25, None, (), FULL)
    points = torch.tensor([[0.625, 0.5], [0.875, 0.5], [0.625, 0.5]]).reshape(3, 1, 1, 2)
    context.mark_broken(torch.tensor([1, 2, 3]), points, torch.tensor([True, True, False]))
    assert context.survival_string() == "1011"
    found = context.adversarial(images)
    assert torch.equal(found[1], points[0]) and torch.equal(found[2], images[2])


def test_a_state_is_that_of_every_parameter_and_buffer() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    before = state_digest(net)
    assert state_digest(net) == before != "" and state_digest(net.forward) == ""
    net[1].num_batches_tracked += 1
    moved = state_digest(net)
    with torch.no_grad():
        net[0].bias[0] += 1e-3
    assert len({before, moved, state_digest(net)}) == 3


def test_a_model_whose_buffers_change_while_it_is_asked_is_warned_of(digits) -> None:
    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("asked", torch.zeros(()))
            self.layer = torch.nn.Linear(64, 10)

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            return self.layer(points.flatten(1))
    images, _ = digits.split("validation", limit=40).all()
    model = Counting().eval()
    labels = model(images).argmax(1).detach()
    check, = audit(model, images, labels, norm="linf", eps=0.1, checks=["well_formed"])["checks"]
    assert check["verdict"] == "warn" and "parameters or buffers changed while it was queried" in check["advice"]
