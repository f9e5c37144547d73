"""Random noise: what its two kinds are under either norm, and which draw is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks import random_noise
from parapet.attacks.balls import distance
from parapet.attacks.objectives import margin
from tests.attacks.linear import SHAPE, far_from_the_limits


def test_uniform_noise_fills_the_ball_and_corner_noise_is_at_its_corners() -> None:
    model, images, labels = far_from_the_limits()
    uniform, corner = (random_noise(model, images, labels, eps=0.1, kind=kind, draws=1) - images
                       for kind in ("uniform", "corner"))
    # the mean of |u| is a half of eps and its mean square a third of eps squared: 512 pixels
    assert float(uniform.abs().mean()) == pytest.approx(0.05, rel=0.1)
    assert float(uniform.square().mean()) == pytest.approx(0.01 / 3, rel=0.15)
    assert torch.allclose(corner.abs(), torch.tensor(0.1), atol=1e-6)
    assert float((corner > 0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_under_l2_both_kinds_lie_on_the_surface_and_corner_noise_is_normal() -> None:
    model, images, labels = far_from_the_limits(256)
    found = {kind: random_noise(model, images, labels, eps=0.2, norm="l2", kind=kind, draws=1)
             for kind in ("uniform", "corner")}
    kurtosis = {}
    for kind, points in found.items():
        assert torch.allclose(distance(points, images, "l2"), torch.tensor(0.2).double(), atol=1e-4)
        offset = (points - images).flatten()
        kurtosis[kind] = float(offset.pow(4).mean() / offset.square().mean() ** 2)
    # 1.8 for a cube and 3 for a normal distribution, both a little less on a sphere of 16 dimensions
    assert kurtosis["uniform"] == pytest.approx(1.8, abs=0.2)
    assert kurtosis["corner"] == pytest.approx(3 * 16 / 18, abs=0.2)


@pytest.mark.parametrize("kind", ["uniform", "corner"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_images_are_no_error(kind: str, norm: str) -> None:
    model, images, labels = far_from_the_limits(1)
    for early_stop in (False, True):
        found = random_noise(model, images[:0], labels[:0], eps=0.1, norm=norm, kind=kind, early_stop=early_stop)
        assert found.shape == (0, *SHAPE)


@pytest.mark.parametrize("kind", ["uniform", "corner"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_draw_of_the_largest_margin_of_all_that_were_asked_is_kept(kind: str, norm: str) -> None:
    linear, images, labels = far_from_the_limits(20)
    asked: list[Tensor] = []

    def model(batch: Tensor) -> Tensor:
        asked.append(batch.clone().reshape(-1, 20, *SHAPE))
        return linear(batch)
    found = random_noise(model, images, labels, eps=0.02, norm=norm, kind=kind, draws=60)
    draws = torch.cat(asked)
    assert len(draws) == 60 and [len(part) for part in asked] == [25, 25, 10]  # 512 points together at most
    for row in range(20):
        margins = [float(margin(linear(draw[[row]]).detach(), labels[[row]])) for draw in draws]
        assert torch.equal(found[row], draws[margins.index(max(margins)), row])
