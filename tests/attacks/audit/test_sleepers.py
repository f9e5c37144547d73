"""Units that are off on all images are woken where they lead to another label, and honest networks have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from parapet.attacks.audit import audit
from parapet.attacks.audit.sleepers import _Leaking, woken
from parapet.attacks.inputs import predict
from parapet.attacks.pgd import pgd
from tests.attacks.maskers.networks import networks, prepare
from tests.attacks.maskers.sleepers import Sleeping, directions


def _sleepers(model: Any, images: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return audit(model, *images, norm="linf", eps=0.2, checks=["margin", "sleepers"],
                 generator=torch.Generator().manual_seed(0))["checks"][1]


@pytest.mark.parametrize("leak", [0.0, 0.1, 1.0])
def test_the_gradient_of_a_unit_that_is_off_is_the_share_that_it_lets_through(leak: float) -> None:
    features = torch.tensor([-2.0, -0.5, 0.5, 3.0], requires_grad=True)
    for activation in (relu, nn.ReLU(), nn.ReLU(inplace=True), torch.relu):
        with _Leaking(leak):
            answer = activation(features * 1.0)
            slope, = torch.autograd.grad(answer.sum(), features)
        assert answer.tolist() == [0.0, 0.0, 0.5, 3.0] and slope.tolist() == pytest.approx([leak, leak, 1.0, 1.0])
    answer = relu(features * 1.0)
    assert torch.autograd.grad(answer.sum(), features)[0].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_planted_units_are_woken_and_an_honest_network_passes(digits, honest, tmp_path) -> None:
    nets, images = networks(prepare(digits, tmp_path)), digits.split("validation", limit=60).all()
    planted = Sleeping(honest.network, directions(nets.known)).eval()
    assert torch.equal(predict(planted, images[0]), predict(honest.network, images[0]))  # all of them sleep
    found = _sleepers(planted, images)
    assert found["verdict"] == "fail" and found["numbers"]["woken"] < 0.2 < found["numbers"]["others"]
    found = _sleepers(honest.network, images)
    assert found["verdict"] == "pass" and found["numbers"]["woken"] > found["numbers"]["others"] - 0.02


def test_what_is_returned_lies_in_the_ball_and_is_the_image_where_nothing_falls(honest, digits) -> None:
    images, labels = digits.split("validation", limit=20).all()
    labels = predict(honest.network, images)
    points = woken(honest.network, images, labels, eps=0.05, norm="linf", classes=10)
    fooled = predict(honest.network, points) != labels
    assert ((points - images).abs().flatten(1).amax(1) <= 0.05 + 1e-6).all()
    assert torch.equal(points[~fooled], images[~fooled])
    alone = pgd(honest.network, images, labels, eps=0.05, steps=10, loss="margin")
    assert int(fooled.sum()) >= int((predict(honest.network, alone) != labels).sum()) - 2
