"""FAB and its projection: against scipy's solver, against brute force, and on networks."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from parapet.attacks import deepfool, fab
from parapet.attacks.balls import distance
from parapet.attacks.minimum_norm.fab import _nearest_boundary, _random_start, _step
from parapet.attacks.minimum_norm.projections import shortest_move
from parapet.attacks.noise import derived
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, ManyClasses, far_from_the_limits, recording


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


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_goes_past_the_plane_and_leans_towards_the_image(norm: str) -> None:
    """Equation 9 by hand, where no pixel is at its limit: at most a tenth of the way is that of the image's own."""
    weight = torch.tensor([1.0, -2.0, 0.5, 1.5])
    images = torch.full((2, 4), 0.5)
    # One point is nearly as far from the plane as its image, the other close to the plane.
    points = images + torch.tensor([[0.02, 0.0, 0.01, 0.0], [0.09, -0.09, 0.0, 0.09]])
    gaps = 0.41 - (points - 0.5) @ weight
    found = _step(points, images, weight.repeat(2, 1), gaps, norm)
    biases = []
    for point, image, gap, end in zip(points, images, gaps.tolist(), found):
        along = weight.sign() / weight.abs().sum() if norm == "linf" else weight / weight.norm() ** 2
        move, move_from_image = gap * along, 0.41 * along
        lengths = [float(one.abs().max() if norm == "linf" else one.norm()) for one in (move, move_from_image)]
        biases.append(min(lengths[0] / sum(lengths), 0.1))
        expected = (1 - biases[-1]) * (point + 1.05 * move) + biases[-1] * (image + 1.05 * move_from_image)
        assert torch.allclose(end, expected, atol=1e-6)
    assert biases[0] == 0.1 > biases[1] > 0


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_point_on_the_boundary_is_taken_across(norm: str, dual: int) -> None:
    """Its gap is nothing; the shortest step is a millionth of a pixel in each, whatever the plane's slope."""
    model = Linear(torch.linspace(-1, 1, 16), 0.0)
    images, labels = torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1])
    for targets in (None, 1 - labels):
        gaps, _ = _nearest_boundary(model, images, images, labels, targets, norm)
        pixels = 1 if norm == "linf" else 4
        assert gaps.tolist() == pytest.approx([1e-6 * pixels * float(model.weight.detach().norm(p=dual))] * 2, rel=1e-2)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_is_half_way_to_the_nearer_of_eps_and_what_was_found(norm: str) -> None:
    images, seeds = torch.full((3, *SHAPE), 0.5), torch.tensor([5, 6, 7])
    for eps, distances, radii in ((0.2, [0.1, torch.inf, 0.3], [0.05, 0.1, 0.1]), (None, [0.1, 0.2, 0.3],
                                                                                   [0.05, 0.1, 0.15])):
        start = _random_start(images, torch.tensor(distances).double(), seeds, eps, norm)
        assert distance(start, images, norm).tolist() == pytest.approx(radii, rel=1e-4)
        directions = (start - images).flatten(1)
        assert len(directions.sign().unique(dim=0)) == 3  # an image has its own


def test_every_restart_of_every_target_but_the_first_has_a_start_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ManyClasses(4)
    images = 0.4 + 0.2 * torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    labels, seeds = model(images).argmax(1), torch.tensor([11, 12])
    drawn: list[list[int]] = []

    def random_start(images: torch.Tensor, distances: torch.Tensor, seeds: torch.Tensor, *rest: object) -> torch.Tensor:
        drawn.append(seeds.tolist())
        return images + 0.01
    recorded, asked = recording(model)
    monkeypatch.setattr(sys.modules["parapet.attacks.minimum_norm.fab"], "_random_start", random_start)
    fab(recorded, images, labels, steps=1, restarts=3, targets=3, generator=seeds)
    # Targets 0, 1, 2 of restart 1, then those of restart 2: nobody shares a stream.
    assert drawn == [derived(seeds, target * 3 + restart).tolist() for restart in (1, 2) for target in range(3)]
    # The first restart begins at the images themselves.
    assert torch.equal(asked[0], images.repeat(3, 1, 1, 1)) and torch.equal(asked[1], asked[0] + 0.01)


def test_the_least_of_each_option_is_enough() -> None:
    model, images, labels = far_from_the_limits(4)
    found, distances = fab(model, images, labels, steps=1, restarts=1, targets=1)
    assert torch.isfinite(distances).all() and (model(found).argmax(1) != labels).all()
    for options in ({"steps": 0}, {"restarts": 0}, {"targets": 0}):
        with pytest.raises(InputError, match="each must be at least 1"):
            fab(model, images, labels, **options)
