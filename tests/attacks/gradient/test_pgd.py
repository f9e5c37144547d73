"""PGD: its default step, by the queries that it makes of a linear model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from parapet.attacks import pgd
from parapet.errors import InputError
from tests.attacks.linear import far_from_the_limits


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_default_step_is_two_and_a_half_radii_over_all_steps(norm: str) -> None:
    """As Madry et al. do; from the image itself, straight on until the radius is reached at the fourth of ten."""
    model, images, labels = far_from_the_limits(5)
    seen: list[Tensor] = []

    def asked(points: Tensor) -> Tensor:
        seen.append(points.detach().clone())
        return model(points)
    pgd(asked, images, labels, eps=0.02, norm=norm, steps=10, random_start=False)
    weight = model.weight.detach().reshape(images.shape[1:])
    way = weight.sign() if norm == "linf" else weight / weight.norm()
    away = torch.where(labels == 0, -1.0, 1.0).reshape(-1, 1, 1, 1) * way
    assert len(seen) == 11
    for step, points in enumerate(seen):
        assert torch.allclose(points, images + min(step * 0.005, 0.02) * away, atol=1e-6)


def test_with_early_stop_each_image_keeps_the_point_that_broke_it() -> None:
    """A broken image is handed back as it first was wrong, another goes on to the corner of the ball."""
    model, images, labels = far_from_the_limits(3)
    exact = model.exact_distances(images, "linf")
    eps = float(exact.sort().values[:2].mean())  # one falls, two stand
    found = pgd(model, images, labels, eps=eps, steps=25, early_stop=True, random_start=False, loss="margin")
    away = torch.where(labels == 0, -1.0, 1.0).reshape(-1, 1, 1, 1) * model.weight.detach().sign().reshape(1, 1, 4, 4)
    size = eps / 10
    for image, way, distance, end in zip(images, away, exact.tolist(), found):
        reached = math.ceil(distance / size) * size if distance < eps else eps
        assert torch.allclose(end, image + reached * way, atol=1e-6)
    assert (exact < eps).sum() == 1


@pytest.mark.parametrize("options", [{"steps": 0}, {"restarts": 0}, {"steps": 0, "restarts": 0}])
def test_nothing_to_do_is_told(options: dict) -> None:
    model, images, labels = far_from_the_limits(2)
    with pytest.raises(InputError, match="both must be at least 1"):
        pgd(model, images, labels, eps=0.1, **options)


def test_one_step_and_two_restarts_are_enough() -> None:
    model, images, labels = far_from_the_limits(4)
    eps = float(model.exact_distances(images, "linf").max()) + 1e-3
    for options in ({"steps": 1}, {"steps": 1, "restarts": 2}):
        assert (model(pgd(model, images, labels, eps=eps, **options)).argmax(1) != labels).all()
