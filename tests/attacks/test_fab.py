"""FAB and its projection: against scipy's solver, against brute force, and on networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from parapet.attacks import deepfool, fab
from parapet.attacks.balls import distance
from parapet.attacks.projections import shortest_move
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, ManyClasses


def _problem(seed: int, share: float, zeros: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(points, normals, gaps) of which the box can meet the share `share` of the farthest reach."""
    generator = torch.Generator().manual_seed(seed)
    points, normals = torch.rand(4, 12, generator=generator), torch.randn(4, 12, generator=generator)
    if zeros:
        points[:, ::3], normals[:, ::4] = 0.0, 0.0
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0])
    room = torch.where(normals * sign[:, None] > 0, 1 - points, points)
    return points, normals, sign * share * (normals.abs() * room).sum(1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.99), zeros=st.booleans())
def test_the_linf_move_is_as_short_as_a_linear_program_s(seed: int, share: float, zeros: bool) -> None:
    points, normals, gaps = _problem(seed, share, zeros)
    moves = shortest_move(points, normals, gaps, "linf")
    assert torch.allclose((normals * moves).sum(1), gaps, atol=1e-4)
    assert (points + moves).min() >= -1e-6 and (points + moves).max() <= 1 + 1e-6
    for point, normal, gap, move in zip(points.double().numpy(), normals.double().numpy(), gaps, moves):
        # minimise t subject to -t <= m_i <= t, <normal, m> = gap, 0 <= point + m <= 1
        size = len(point)
        bounds = [(-value, 1 - value) for value in point] + [(0, None)]
        within = np.vstack([np.hstack([sign * np.eye(size), -np.ones((size, 1))]) for sign in (1, -1)])
        best = linprog([0] * size + [1], A_ub=within, b_ub=np.zeros(2 * size), A_eq=[[*normal, 0]], b_eq=[float(gap)],
                       bounds=bounds)
        assert float(move.abs().max()) == pytest.approx(best.fun, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.99), zeros=st.booleans())
def test_the_l2_move_meets_the_conditions_of_the_optimum(seed: int, share: float, zeros: bool) -> None:
    points, normals, gaps = _problem(seed, share, zeros)
    moves = shortest_move(points, normals, gaps, "l2")
    assert torch.allclose((normals * moves).sum(1), gaps, atol=1e-4)
    assert (points + moves).min() >= -1e-6 and (points + moves).max() <= 1 + 1e-6
    for point, normal, move in zip(points, normals, moves):
        # Karush-Kuhn-Tucker: pixels inside the box move in proportion to the normal, pixels at its limits less.
        free = (point + move > 1e-5) & (point + move < 1 - 1e-5) & (normal.abs() > 1e-3)
        if free.any():
            ratio = move[free] / normal[free]
            assert torch.allclose(ratio, ratio.mean().expand_as(ratio), atol=1e-4)
            bound = (normal != 0) & ~free & (normal.abs() > 1e-3)
            assert ((move[bound] / normal[bound]).abs() <= ratio.abs().mean() + 1e-3).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_the_box_does_not_reach_the_plane_the_move_goes_as_far_as_it_can(norm: str) -> None:
    points, normals = torch.tensor([[0.25, 0.75]]), torch.tensor([[1.0, -2.0]])
    moves = shortest_move(points, normals, torch.tensor([100.0]), norm)
    assert moves.tolist() == [[0.75, -0.75]]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_many_classes_of_a_linear_model(norm: str) -> None:
    model = ManyClasses(6)
    images = 0.45 + 0.1 * torch.rand(32, *SHAPE, generator=torch.Generator().manual_seed(3))
    labels = model(images).argmax(1)
    exact = model.exact_distances(images, labels, norm)
    for options in ({"targets": 5}, {"targets": None}):
        _, distances = fab(model, images, labels, norm=norm, **options)
        assert torch.allclose(distances, exact.double(), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(("norm", "slack"), [("linf", 1.0), ("l2", 1.0)])
def test_it_comes_closer_than_deepfool(honest, digits, norm: str, slack: float) -> None:
    images, labels = digits.split("test", limit=60).all()
    found, distances = fab(honest.network, images, labels, norm=norm, steps=30, targets=9)
    assert distances.median() <= slack * deepfool(honest.network, images, labels, norm=norm)[1].median()
    right = honest.network(images).argmax(1) == labels
    assert (distances[~right] == 0).all() and torch.equal(found[~right], images[~right])
    reached = right & torch.isfinite(distances)
    assert (honest.network(found[reached]).argmax(1) != labels[reached]).all()
    assert torch.allclose(distances[reached], distance(found, images, norm)[reached])
    assert found.min() >= 0 and found.max() <= 1


def test_an_image_that_is_broken_within_eps_is_left_alone(honest, digits) -> None:
    images, labels = digits.split("test", limit=60).all()
    seen = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return honest.network(batch)
    whole = fab(counted, images, labels, steps=10)[1]
    all_passes, eps = sum(seen), float(whole.median())
    seen.clear()
    told = fab(counted, images, labels, steps=10, eps=eps)[1]
    assert sum(seen) < all_passes
    # whoever is broken within eps by the whole run is broken by the shorter one: targets come in the same order
    assert torch.equal(told <= eps, whole <= eps)


def test_restarts_only_shorten(honest, digits) -> None:
    images, labels = digits.split("test", limit=20).all()
    one, three = (fab(honest.network, images, labels, steps=5, targets=2, restarts=restarts)[1] for restarts in (1, 3))
    assert (three <= one).all()


def test_a_constant_model_has_no_adversarial_images() -> None:
    images, labels = torch.rand(3, *SHAPE), torch.tensor([0, 0, 1])
    found, distances = fab(lambda batch: torch.tensor([[1.0, 0.0]]).expand(len(batch), 2), images, labels, steps=3)
    assert distances.tolist() == [torch.inf, torch.inf, 0.0] and torch.equal(found, images)


def test_wrong_options_are_told() -> None:
    images, labels = torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1])
    with pytest.raises(InputError, match="fab got steps=5, restarts=0, targets=9; each must be at least 1."):
        fab(Linear(torch.ones(16), 0.0), images, labels, steps=5, restarts=0)
