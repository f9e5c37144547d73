"""Attacks on predicted labels expose a decoy, and break nothing beyond the white box on honest networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks import hop_skip_jump
from parapet.attacks.audit import AuditBudget, audit
from parapet.attacks.audit.surrogate import decision_attacks, fit_surrogate, transfer_from_surrogate
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict
from parapet.attacks.noise import image_seeds
from parapet.attacks.query_counter import QueryCounter
from tests.attacks.maskers.logits import hard_label_with_decoy, hard_label_with_waves

BUDGET = AuditBudget(decision_images=20, decision_queries=300)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=64).all()


def _check(model: Any, images: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return audit(model, *images, norm="linf", eps=0.2, checks=["labels_alone"], limits=BUDGET,
                 generator=torch.Generator().manual_seed(0))["checks"][0]


def _fitted(model: Any, images: Tensor) -> Any:
    return fit_surrogate(model, images, image_seeds(len(images), torch.Generator().manual_seed(0), images.device),
                    classes=10, eps=0.2, norm="linf")


def test_a_hard_label_beside_a_smooth_decoy_fails(undefended, honest, images) -> None:
    for model in (hard_label_with_waves(undefended.network), hard_label_with_decoy(undefended.network, honest.network)):
        check = _check(model, images)
        assert check["verdict"] == "fail"
        assert check["numbers"]["with_decisions"] < check["numbers"]["white_box"] - 0.1


def test_honest_nets_lose_no_more_than_to_gradients(undefended, honest, images) -> None:
    for network in (undefended.network, honest.network):
        assert _check(network, images)["verdict"] == "pass"


def test_a_surrogate_answers_as_the_model_does_and_the_same_each_time(undefended, images) -> None:
    surrogate, again = (_fitted(undefended.network, images[0]) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(surrogate.parameters(), again.parameters()))
    agreed = predict(surrogate, images[0]) == predict(undefended.network, images[0])
    assert float(agreed.double().mean()) > 0.9


def test_its_images_break_an_undefended_net_that_shows_labels_alone(undefended, images) -> None:
    def labels_alone(batch: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.one_hot(undefended.network(batch).argmax(1), 10).float()
    surrogate = _fitted(labels_alone, images[0])
    points = transfer_from_surrogate(labels_alone, *images, surrogate=surrogate, eps=0.2, norm="linf",
                            generator=torch.arange(64))
    assert (distance(points, images[0], "linf") <= 0.2).all()
    assert float((predict(labels_alone, points) == images[1]).double().mean()) < 0.15


def test_where_nothing_stands_nothing_is_asked(undefended, images) -> None:
    asked = QueryCounter()
    found = audit(asked.of(undefended.network), *images, norm="linf", eps=0.4, checks=["labels_alone"], limits=BUDGET)
    check, = found["checks"]
    assert check["verdict"] == "pass" and check["numbers"] == {"white_box": 0.0}
    assert check["advice"] == "Not needed: no image survives the white-box attacks."
    assert asked.queries < 100 * len(images[0])


def test_decisions_in_linf_come_from_rays_first(honest, digits) -> None:
    """A hard label behind gradients of zero: what HopSkipJump leaves within these queries, RayS finds."""
    few, labels = digits.split("test", limit=40).all()

    def hard(batch: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.one_hot(honest.network(batch).argmax(1), 10).float()
    surrogate = _fitted(hard, few)
    points = decision_attacks(hard, surrogate, few, labels, 0.2, "linf", 1500, torch.arange(40))
    _, alone = hop_skip_jump(hard, few, labels, norm="linf", queries=1500, generator=torch.arange(40))
    assert (distance(points, few, "linf") <= 0.2).all()
    assert int((predict(hard, points) == labels).sum()) < int((alone > 0.2).sum())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_decisions_do_not_break_inside_the_ball_stays_as_it_is(undefended, images, norm: str) -> None:
    few, labels = images[0][:12], images[1][:12]
    surrogate = _fitted(undefended.network, images[0])
    points = decision_attacks(undefended.network, surrogate, few, labels, 0.05, norm, 100, torch.arange(12))
    moved = (points != few).flatten(1).any(1)
    assert (distance(points, few, norm) <= 0.05).all()
    assert (predict(undefended.network, points)[moved] != labels[moved]).all()
