"""The verdicts of the audit do not depend on the scale of the logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks import audit
from parapet.attacks.audit import AuditBudget
from tests.attacks import maskers

CHECKS = ("well_formed", "gradients", "uphill", "alignment", "steps")
FEW = AuditBudget(pgd_steps=10, restarts=1, targeted_steps=5, targets=2, square_queries=50, decision_queries=50,
                  decision_images=4, noise_draws=10)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("test", limit=60).all()


def _verdicts(model, images: tuple[Tensor, Tensor], checks: tuple[str, ...] = CHECKS) -> dict[str, str]:
    report = audit(model, *images, norm="linf", eps=0.2, checks=checks, limits=FEW,
                   generator=torch.Generator().manual_seed(0))
    return {check["id"]: check["verdict"] for check in report["checks"]}


@pytest.mark.parametrize("power", [-27, -60])
def test_an_honest_net_with_small_logits_gets_the_verdicts_of_any_other(honest, images, power: int) -> None:
    network = honest.network
    assert _verdicts(lambda batch: network(batch) * 2.0**power, images) == _verdicts(network, images)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_gradients_that_are_hardly_there_fail_at_any_scale(honest, images, scale: float) -> None:
    def faded(batch: Tensor) -> Tensor:
        return maskers.with_gradient(lambda points: honest.network(points) * scale, lambda slope: slope * 1e-20)(batch)
    assert _verdicts(faded, images, ("gradients",)) == {"gradients": "fail"}
    killed = maskers.gradient_killed(lambda batch: honest.network(batch) * scale)
    assert _verdicts(killed, images, ("gradients",)) == {"gradients": "fail"}


def test_logits_that_are_all_far_from_0_change_no_verdict(honest, images) -> None:
    # 2**10: what rounding leaves of logits is enough for every check.
    found = _verdicts(lambda batch: honest.network(batch) + 1024.0, images)
    assert found == _verdicts(honest.network, images)
