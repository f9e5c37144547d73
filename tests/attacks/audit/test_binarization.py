"""The binarization test: attacks find adversarial examples that are known to exist, unless gradients are masked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks.audit import FULL, audit
from parapet.attacks.audit.binarization import _fit_readout, feature_extractor
from parapet.attacks.balls import ball, distance
from tests.attacks import maskers
from tests.attacks.linear import far_from_the_limits


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=64).all()


def _power(model: Any, images: tuple[Tensor, Tensor], norm: str = "linf", eps: float = 0.2) -> dict[str, Any]:
    return audit(model, *images, norm=norm, eps=eps, checks=["power"],
                 generator=torch.Generator().manual_seed(0))["checks"][0]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 1.0)])
def test_of_honest_nets_nearly_all_is_found(honest, undefended, images, norm: str, eps: float) -> None:
    for network in (honest.network, undefended.network):
        check = _power(network, images, norm, eps)
        assert check["verdict"] == "pass" and check["numbers"]["found"] > 0.9
        assert check["numbers"]["features"] == "input of the last linear layer" and check["numbers"]["images"] == 48


@pytest.mark.parametrize("masker", [maskers.gradient_killed, maskers.gradient_turned, maskers.shattered,
                                    maskers.gradient_sparse], ids=lambda masker: masker.__name__)
def test_where_gradients_are_of_no_use_it_is_doubted_or_called_too_weak(undefended, images, masker: Any) -> None:
    """Square finds what is there on an undefended net, whatever its gradients are."""
    check = _power(masker(undefended.network), images)
    assert check["verdict"] in ("warn", "fail") and check["numbers"]["features"] == "logits"
    assert check["numbers"]["found_by_gradients"] < 0.7
    assert ("depends on gradient-free attacks" if check["verdict"] == "warn" else "too weak") in check["advice"]


@pytest.mark.parametrize(("queries", "verdict"), [(1, "fail"), (500, "warn")])
def test_what_gradients_miss_is_searched_by_square(undefended, images, queries: int, verdict: str) -> None:
    model = maskers.gradient_killed(undefended.network)
    limits = replace(FULL, square_queries=queries)
    check = audit(model, *images, norm="linf", eps=0.2, checks=["power"], limits=limits,
                  generator=torch.Generator().manual_seed(0))["checks"][0]
    assert check["verdict"] == verdict
    assert (check["numbers"]["found"] > 0.9) == (verdict == "warn") and check["numbers"]["found_by_gradients"] < 0.5


def test_a_few_that_gradients_miss_and_square_finds_are_taken_into_account() -> None:
    """A linear model whose gradient is gone on a fifth of the images."""
    class Net(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            pixels = images.flatten(1)
            dead = (images[:, :, 0, 0] > 0.5).any(1, keepdim=True)
            pixels = torch.where(dead, pixels.detach(), pixels)
            return torch.stack([pixels[:, 1:].sum(1), pixels[:, 1:9].sum(1)], 1)
    images = torch.full((50, 1, 4, 4), 0.4)
    images[:10, :, 0, 0] = 1.0
    images[10:, :, 0, 0] = 0.0
    check = _power(Net(), (images, Net()(images).argmax(1)), eps=0.1)
    assert check["verdict"] == "pass" and 0.7 < check["numbers"]["found_by_gradients"] < 0.9
    assert check["advice"].startswith("Taken into account: PGD finds ")


def test_a_model_that_answers_alike_everywhere_has_nothing_to_find(images) -> None:
    check = _power(lambda batch: torch.eye(10)[torch.zeros(len(batch), dtype=torch.int64)] + 0 * batch.sum(),
                   (images[0], torch.zeros_like(images[1])))
    assert check["verdict"] == "warn" and check["numbers"] == {
        "features": "logits", "images": 0, "found": None}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_point_of_the_ball_lies_beyond_the_readout_and_the_image_does_not(norm: str) -> None:
    """Of a linear model the farthest point of all is known, and it lies beyond whatever was drawn."""
    model, images, _ = far_from_the_limits()
    eps = 0.1
    readout, sure = _fit_readout(model, images, eps, norm, torch.arange(len(images)))
    assert sure.all() and (readout(images).argmax(1) == 0).all()
    weights = model.weight.detach().reshape(1, *images.shape[1:])
    step = weights.sign() if norm == "linf" else weights / weights.norm()
    ends = [ball(images, eps, norm).project(images + side * eps * step) for side in (1, -1)]
    beyond = torch.stack([readout(points)[:, 1] > 0 for points in ends])
    assert (beyond.sum(0) == 1).all()
    assert all((distance(points, images, norm) <= eps).all() for points in ends)


def test_features_are_the_input_of_the_last_linear_layer_that_runs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused_first, self.body, self.head = nn.Linear(3, 3), nn.Linear(16, 5), nn.Linear(5, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.body(images.flatten(1)).relu())
    net, points = Net(), torch.rand(4, 1, 4, 4)
    features, kind = feature_extractor(net, points[:1])
    assert kind == "input of the last linear layer"
    assert torch.equal(features(points), net.body(points.flatten(1)).relu())
    assert not net.head._forward_pre_hooks and not net.body._forward_pre_hooks
    bare, kind = feature_extractor(lambda images: images.flatten(1)[:, :2], points[:1])
    assert kind == "logits" and torch.equal(bare(points), points.flatten(1)[:, :2])
