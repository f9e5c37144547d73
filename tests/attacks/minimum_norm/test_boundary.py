"""The way to a boundary: steps that are sure to cross it, bisection, and feet that stay among the pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.minimum_norm.boundary import crossing, drop_perpendicular, refine
from parapet.attacks.objectives import margin
from tests.attacks.linear import Linear


@pytest.mark.parametrize(("norm", "shortest"), [("linf", 1e-6), ("l2", 4e-6)])
def test_a_step_over_a_boundary_is_as_long_as_rounding_asks(norm: str, shortest: float) -> None:
    """By loops: a gap grows by the rounding of the logits, and to the shortest step of 16 pixels at least."""
    logits = torch.tensor([[4.0, -2.0, 1.0], [0.5, 0.25, 0.0]])
    gaps, lengths = torch.tensor([[0.0, 2e-6], [1e-7, 0.5]]), torch.tensor([[3.0, 2.0], [5.0, 1.0]])
    way = torch.tensor([0.2, 0.0])
    found = crossing(gaps, lengths, logits, way, 16, norm)
    for image, largest in enumerate((4.0, 0.5)):
        rounding = 2**-23 * largest
        for place in range(2):
            gap, length = float(gaps[image, place]), float(lengths[image, place])
            # On which side the point lies is not known where the gap is no larger than the rounding.
            least = shortest + (5e-3 * float(way[image]) if gap <= rounding else 0.0)
            assert float(found[image, place]) == pytest.approx(max(gap + rounding, least * length), rel=1e-5)


def test_bisection_halves_the_segment_as_often_as_it_is_told() -> None:
    """The decision changes at 0.3 of the way from black to white: after three halvings the end is at 3/8."""
    def model(points: Tensor) -> Tensor:
        seen.append(float(points[0, 0, 0, 0]))
        value = points.mean((1, 2, 3))
        return torch.stack([0.3 - value, value - 0.3], 1)
    seen: list[float] = []
    images, labels = torch.zeros(1, 1, 2, 2), torch.tensor([0])
    found = refine(model, images, labels, torch.ones_like(images), steps=3)
    assert seen == pytest.approx([0.5, 0.25, 0.375]) and found.flatten().tolist() == pytest.approx([0.375] * 4)


def test_the_foot_of_a_perpendicular_stays_among_the_pixels() -> None:
    """The first pixel has only 0.1 to go down, so that the overshoot would carry it below black, or above white."""
    model = Linear(torch.tensor([3.0, 1.0]), -0.7)
    images, labels = torch.tensor([[0.1, 0.8], [0.0, 0.1]]).reshape(2, 1, 1, 2), torch.tensor([0, 1])
    far = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).reshape(images.shape)
    found = drop_perpendicular(model, images, labels, far, "l2")
    assert found.min() >= 0 and found.max() <= 1 and (margin(model(found), labels) > 0).all()
    # The nearest points of the plane 3 a + b = 0.7: with a at black it is (0, 0.7), and freely (0.18, 0.16).
    assert found.flatten().tolist() == pytest.approx([0.0, 0.7, 0.18, 0.16], abs=5e-3)


def test_a_foot_that_fools_nobody_leaves_the_point_where_it_was() -> None:
    """Inside a disc alone the model is wrong: the plane that touches it at the right has its foot far below it."""
    def disc(points: Tensor) -> Tensor:
        value = 0.09 - ((points.flatten(1) - 0.5) ** 2).sum(1)
        return torch.stack([-value, value], 1)
    images, labels = torch.tensor([0.5, 0.0]).reshape(1, 1, 1, 2), torch.tensor([0])
    right, below = (torch.tensor(point).reshape(images.shape) for point in ([0.78, 0.5], [0.5, 0.21]))
    assert torch.equal(drop_perpendicular(disc, images, labels, right, "l2"), right)
    # Straight ahead of the image the plane touches where the disc is nearest.
    found = drop_perpendicular(disc, images, labels, below, "l2")
    assert not torch.equal(found, below) and found.flatten().tolist() == pytest.approx([0.5, 0.2], abs=5e-3)
