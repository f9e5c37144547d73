"""HopSkipJump's parts against the paper's equations, worked out by hand, and how it spends its queries."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks import hop_skip_jump
from parapet.attacks.balls import distance
from tests.attacks.linear import far_from_the_limits

hsj: Any = importlib.import_module("parapet.attacks.black_box.hop_skip_jump")


def _above_half(images: Tensor) -> Tensor:
    """Class 1 where the first pixel is above 0.5."""
    value = images[:, 0, 0, 0] - 0.5
    return torch.stack([-value, value], 1)


@pytest.mark.parametrize(("norm", "queries", "rounds"), [
    # halvings + the rounds' neighbours, each with 20 for the step and the halvings again, are the queries
    ("l2", 6 + 3 * 26 + 100 + 141 + 75, [100, 141, 75]), ("linf", 8 + 3 * 28 + 100 + 141 + 67, [100, 141, 67]),
    ("l2", 6 + 26 + 1, []), ("l2", 6 + 26 + 2, [2]), ("l2", 6 + 26 + 100 + 26 + 1, [100]), ("linf", 3, []),
])
def test_the_rounds_grow_with_the_root_of_their_number_while_the_budget_lasts(monkeypatch, norm: str, queries: int,
                                                                              rounds: list[int]) -> None:
    """On 16 pixels the bisection halves 6 times under L2 and 8 times under L-inf (section 5.1: 16**-1.5, 16**-2)."""
    model, images, labels = far_from_the_limits(4)
    normal, given, asked = hsj._normal, [], []

    def recording(model: Any, points: Tensor, labels: Tensor, norm: str, count: int, reach: Tensor,
                  seeds: Tensor) -> Tensor:
        given.append((count, points, reach, seeds))
        return normal(model, points, labels, norm, count, reach, seeds)

    def counting(batch: Tensor) -> Tensor:
        asked.append(len(batch))
        return model(batch)
    monkeypatch.setattr(hsj, "_normal", recording)
    _, distances = hop_skip_jump(counting, images, labels, norm=norm, queries=queries)
    assert [count for count, *_ in given] == rounds
    assert sum(asked) <= 4 * (queries + 2)  # one pass over the images and one over their negatives come on top
    for turn, (_, points, reach, _) in enumerate(given):
        expected = torch.full((4,), 0.1) if turn == 0 else distance(points, images, norm).float() / 16
        assert torch.allclose(reach, expected, rtol=1e-5)
    assert len({tuple(seeds.tolist()) for *_, seeds in given}) == len(rounds)
    assert (distances < torch.inf).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("count", "together"), [(24, 2048), (24, 16), (40, 96), (16, 16), (2, 2048)])
def test_the_normal_is_that_of_equation_16_over_the_neighbours_asked(monkeypatch, norm: str, count: int,
                                                                     together: int) -> None:
    monkeypatch.setattr(hsj, "_TOGETHER", together)
    asked: list[Tensor] = []

    def model(batch: Tensor) -> Tensor:
        asked.append(batch.clone().reshape(3, -1, 4))
        return _above_half(batch)
    points, labels = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
    points[0, 0, 0, 0], points[1, 0, 0, 0] = 0.51, 0.45
    found = hsj._normal(model, points, labels, norm, count, torch.full((3,), 0.125), torch.arange(3))
    neighbours = torch.cat(asked, 1).double()
    assert neighbours.shape[1] == count
    for row in range(3):
        directions = [(neighbour - points[row].flatten().double()) / 0.125 for neighbour in neighbours[row]]
        signs = [1.0 if (neighbour[0] > 0.5) != bool(labels[row]) else -1.0 for neighbour in neighbours[row]]
        assert all(float(direction.norm()) == pytest.approx(1.0, abs=1e-5) for direction in directions)
        mean = sum(signs) / count
        # where all agree the paper takes the mean direction itself
        terms = [(sign if abs(mean) == 1 else sign - mean) * direction for sign, direction in zip(signs, directions)]
        expected = torch.stack(terms).mean(0)
        expected = expected.sign() if norm == "linf" else expected / expected.norm()
        assert torch.allclose(found[row].flatten().double(), expected, atol=1e-4)


def test_no_more_are_asked_together_than_fit_and_other_groups_change_nothing(monkeypatch) -> None:
    sizes: list[int] = []

    def model(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return _above_half(batch)
    points, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    found = []
    for together in (2048, 70, 32):
        monkeypatch.setattr(hsj, "_TOGETHER", together)
        sizes.clear()
        found.append(hsj._normal(model, points, labels, "l2", 40, torch.full((2,), 0.1), torch.arange(2)))
        assert sizes == {2048: [80], 70: [64, 16], 32: [32, 32, 16]}[together]
    assert torch.allclose(found[0], found[1], atol=1e-5) and torch.allclose(found[0], found[2], atol=1e-5)


def test_the_step_is_halved_until_it_lands_on_the_wrong_side_and_stays_in_the_box() -> None:
    """Wrong is (0.5, 0.56], which steps of 0.4 and of 3 reach after three and six halvings, and downwards never."""
    asked: list[list[float]] = []

    def model(batch: Tensor) -> Tensor:
        pixel = batch.flatten(1)[:, 0]
        asked.append(pixel.tolist())
        inside = ((pixel > 0.5) & (pixel <= 0.56)).float()
        return torch.stack([1 - inside, inside], 1)
    points, labels = torch.full((3, 1, 1, 1), 0.5), torch.zeros(3, dtype=torch.int64)
    normal, lengths = torch.tensor([1.0, 1.0, -1.0]).reshape(3, 1, 1, 1), torch.tensor([0.4, 3.0, 3.0])
    landed = hsj._jump(model, points, labels, normal, lengths).flatten()
    assert landed.tolist() == pytest.approx([0.55, 0.5 + 3 / 64, 0.5])
    for turn, tried in enumerate(asked):
        assert tried == pytest.approx([min(0.5 + 0.4 / 2**turn, 1), min(0.5 + 3 / 2**turn, 1),
                                       max(0.5 - 3 / 2**turn, 0)])
    assert len(asked) == 20  # for one that never lands
    asked.clear()
    hsj._jump(model, points[:1], labels[:1], normal[:1], lengths[:1])
    assert len(asked) == 4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_bisection_ends_on_the_wrong_side_of_the_boundary_for_either_label(norm: str) -> None:
    """From 0.2 to 0.9 the boundary at 0.5 lies at 3/7 of the way: in sixteenths, the next beyond is 7/16."""
    images = torch.tensor([[0.2, 0.2], [0.8, 0.2]]).reshape(2, 1, 1, 2)
    ends = torch.tensor([[0.9, 0.3], [0.1, 0.3]]).reshape(2, 1, 1, 2)
    found = hsj._to_boundary(_above_half, ends, images, torch.tensor([0, 1]), norm, 4).reshape(2, 2)
    way = 0.7 * 7 / 16
    # under L-inf the bound on all pixels shrinks, and the second is within it already
    other = 0.3 if norm == "linf" else 0.2 + 0.1 * 7 / 16
    assert torch.allclose(found, torch.tensor([[0.2 + way, other], [0.8 - way, other]]))
    assert torch.equal(hsj._to_boundary(_above_half, ends, images, torch.tensor([0, 1]), norm, 0), ends)


def test_neighbours_and_normals_have_length_1_where_the_draws_are_short() -> None:
    """Of points drawn from the square [-1, 1]**2 most are nearer than 1, and two directions may nearly cancel."""
    asked: list[Tensor] = []

    def model(batch: Tensor) -> Tensor:
        asked.append(batch.clone())
        return _above_half(batch)
    points, labels = torch.full((64, 1, 1, 2), 0.5), torch.arange(64) % 2
    normal = hsj._normal(model, points, labels, "l2", 2, torch.full((64,), 0.25), torch.arange(64))
    ends = torch.cat(asked)
    assert torch.allclose(distance(ends, torch.full_like(ends, 0.5), "l2"), torch.tensor(0.25).double(), atol=1e-6)
    assert torch.allclose(normal.flatten(1).norm(dim=1), torch.ones(64), atol=1e-5)
