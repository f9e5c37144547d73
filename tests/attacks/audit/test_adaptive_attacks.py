"""The attacks of the adaptive stage: which doubts call for which attacks, and the result of one of them."""

from __future__ import annotations

import torch

from parapet.attacks.audit import AuditBudget
from parapet.attacks.audit.adaptive_attacks import STAGES, Doubts
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.inputs import predict
from tests.attacks.test_gradient_blocking import Rounding


def _doubts(*checks: str, variations: tuple[str, ...] = (), beyond: float = 0.0) -> Doubts:
    return Doubts(frozenset(checks), variations, beyond)


def _wanted(doubts: Doubts) -> list[str]:
    return [stage.name for stage in STAGES if stage.wanted(doubts)]


def test_what_is_in_doubt_decides_what_is_tried() -> None:
    assert _wanted(_doubts()) == [] and _wanted(_doubts(beyond=0.02)) == []
    assert _wanted(_doubts(beyond=0.03)) == ["rapid"] == _wanted(_doubts("restarts"))
    assert _wanted(_doubts("gradients")) == ["rapid", "straight through", "averaged gradients", "surrogate", "queries"]
    assert _wanted(_doubts("variations", variations=("channels last",))) == ["seen otherwise"]
    assert _wanted(_doubts("deployed")) == []
    assert _wanted(_doubts("memory")) == ["copy"] and _wanted(_doubts("transfer")) == ["rapid", "transfer"]


def test_doubts_are_read_from_a_report() -> None:
    numbers = {"as_before": 0.9, "8-bit pixels": 0.1, "in another order": 0.9, "frame zeroed": None}
    report = {"checks": [{"id": "scale", "verdict": "pass", "numbers": {}},
                         {"id": "uphill", "verdict": "warn", "numbers": {}},
                         {"id": "variations", "verdict": "fail", "numbers": numbers},
                         {"id": "deployed", "verdict": "fail", "numbers": {"one_at_a_time": 0.1}}]}
    assert Doubts.of(report, 0.1) == Doubts(frozenset({"uphill", "variations", "deployed"}),
                                            ("8-bit pixels", "one at a time"), 0.1)


def test_a_module_whose_layer_rounds_is_attacked_straight_through_it(undefended, digits) -> None:
    images = digits.split("validation", limit=80).all()
    model = torch.nn.Sequential(Rounding(), undefended.network)
    right = predict(model, images[0]) == images[1]
    context = AuditContext(model, *images, "linf", 0.2, torch.Generator().manual_seed(0), (), AuditBudget(pgd_steps=20))
    stage = next(stage for stage in STAGES if stage.name == "straight through")
    stage.attack(context, _doubts("gradients"))
    assert len(context.standing) == int(right.sum()) and float(context.standing.double().mean()) <= 0.05
