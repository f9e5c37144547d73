"""Attacks find units that are inactive on all images where they lead to another label; honest networks have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from parapet.attacks.audit import audit
from parapet.attacks.audit.inactive_units import inactive_units_attack
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import predict
from tests.attacks.maskers.inactive_units import Sleeping, directions
from tests.attacks.maskers.networks import networks, prepare


def _sleepers(model: Any, images: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return audit(model, *images, norm="linf", eps=0.2, checks=["margin", "sleepers"],
                 generator=torch.Generator().manual_seed(0))["checks"][1]


@pytest.mark.parametrize("activation", [
    torch.relu, functional.relu6, lambda features: features.clamp(min=0),
    lambda features: functional.gelu(30 * features) / 30,
    lambda features: torch.where(features > 0, features, 0.0), lambda features: features * (features > 0)])
def test_planted_units_are_woken_and_an_honest_network_passes(digits, honest, tmp_path, activation: Any) -> None:
    nets, images = networks(prepare(digits, tmp_path)), digits.split("validation", limit=60).all()
    planted = Sleeping(honest.network, directions(nets.known)).eval()
    planted.activation = activation
    assert torch.equal(predict(planted, images[0]), predict(honest.network, images[0]))  # all of them sleep
    found = _sleepers(planted, images)
    assert found["verdict"] == "fail" and found["numbers"]["woken"] < 0.2 < found["numbers"]["others"]
    found = _sleepers(honest.network, images)
    assert found["verdict"] == "pass" and found["numbers"]["woken"] > found["numbers"]["others"] - 0.02


def test_what_is_returned_lies_in_the_ball_and_is_the_image_where_nothing_falls(honest, digits) -> None:
    images, labels = digits.split("validation", limit=20).all()
    labels = predict(honest.network, images)
    points = inactive_units_attack(honest.network, images, labels, eps=0.05, norm="linf", classes=10)
    fooled = predict(honest.network, points) != labels
    assert ((points - images).abs().flatten(1).amax(1) <= 0.05 + 1e-6).all()
    assert torch.equal(points[~fooled], images[~fooled])
    alone = pgd(honest.network, images, labels, eps=0.05, steps=10, loss="margin")
    assert int(fooled.sum()) >= int((predict(honest.network, alone) != labels).sum()) - 2
