"""Distances, directions and dual lengths, by hand."""

from __future__ import annotations

import pytest
import torch

from parapet.attacks.balls import LinfBall, ball, contains, distance, dual_length, unit, widest


@pytest.mark.parametrize(("norm", "expected"), [("linf", [0.4, 0.5, 0.0]), ("l2", [0.5, 0.5, 0.0])])
def test_distances_are_those_of_each_pair_alone(norm: str, expected: list[float]) -> None:
    images = torch.zeros(3, 1, 2, 2)
    points = torch.tensor([[0.3, 0.4, 0.0, 0.0], [0.0, 0.0, 0.0, -0.5], [0.0] * 4]).reshape(images.shape)
    assert distance(points, images, norm).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.25), ("l2", 0.5)])
def test_a_ball_contains_what_is_near_enough_and_has_pixels_from_0_to_1(norm: str, eps: float) -> None:
    images = torch.full((4, 1, 2, 2), 0.25)
    points = images + torch.tensor([0.25, 0.2501, -0.25, -0.2501]).reshape(4, 1, 1, 1)
    assert contains(points, images, norm, eps).tolist() == [True, False, True, False]
    assert contains(points, images, norm, 2 * eps).tolist() == [True, True, True, False]


def test_no_ball_needs_to_be_wider_than_from_black_to_white() -> None:
    images = torch.zeros(2, 3, 4, 5)
    assert widest(images, "linf") == 1.0 and widest(images, "l2") == pytest.approx(60 ** 0.5)


def test_each_direction_is_scaled_by_its_own_largest_entry() -> None:
    directions = torch.tensor([[3.0, -4.0], [0.03, 0.04], [0.0, 0.0]])
    assert torch.allclose(unit(directions), torch.tensor([[0.6, -0.8], [0.6, 0.8], [0.0, 0.0]]))


def test_dual_lengths_are_taken_over_the_last_dimension() -> None:
    normals = torch.tensor([[[3.0, -4.0, 0.0], [0.0, 1.0, 0.0]]])
    assert torch.allclose(dual_length(normals, "linf"), torch.tensor([[7.0, 1.0]]))
    assert torch.allclose(dual_length(normals, "l2"), torch.tensor([[5.0, 1.0]]))


def test_a_point_outside_comes_back_to_the_sphere_along_its_own_direction() -> None:
    images = torch.full((1, 1, 1, 2), 0.5)
    points = images + torch.tensor([0.3, 0.4])
    found = ball(images, 0.25, "l2").project(points)
    # Within the hair by which the ball is smaller, 1e-6 of eps and the rounding of two pixels.
    assert (found - images).flatten().tolist() == pytest.approx([0.15, 0.2], abs=1e-6)
    assert torch.equal(LinfBall(images, 0.25).project(points), images + 0.25)
