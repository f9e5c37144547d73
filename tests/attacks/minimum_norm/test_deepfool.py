"""DeepFool: one step on a linear model by hand, and options out of range."""

from __future__ import annotations

import pytest
import torch

from parapet.attacks import deepfool
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, far_from_the_limits, recording


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_step_passes_the_plane_by_the_overshoot(norm: str) -> None:
    model, images, labels = far_from_the_limits(6)
    recorded, seen = recording(model)
    deepfool(recorded, images, labels, norm=norm, overshoot=0.1)
    weight = model.weight.detach()
    for image, point in zip(images, seen[1]):
        value = float(image.flatten() @ weight) + model.bias
        move = -value * (weight.sign() / weight.abs().sum() if norm == "linf" else weight / weight.norm() ** 2)
        assert torch.allclose(point.flatten(), image.flatten() + 1.1 * move, atol=1e-5)


@pytest.mark.parametrize("options", [{"steps": 0}, {"classes": 1}, {"overshoot": -0.1}, {"overshoot": 1.0},
                                     {"overshoot": float("nan")}])
def test_options_out_of_range_are_told(options: dict) -> None:
    with pytest.raises(InputError, match="steps must be at least 1, classes at least 2, overshoot in"):
        deepfool(Linear(torch.ones(16), 0.0), torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1]), **options)


def test_the_least_of_each_option_is_enough() -> None:
    model, images, labels = far_from_the_limits(4)
    found, distances = deepfool(model, images, labels, steps=1, classes=2)
    assert torch.isfinite(distances).all() and (model(found).argmax(1) != labels).all()
    _, straight = deepfool(model, images, labels, overshoot=0.0)
    assert torch.allclose(straight, distances, rtol=2e-3)
