"""The attacks of the adaptive stage: which doubts ask for which of them, and what one of them finds."""

from __future__ import annotations

import torch

from parapet.attacks.audit import AuditBudget
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.stages import STAGES, Doubts, Given
from parapet.attacks.inputs import predict
from tests.attacks.test_stand_ins import Rounding


def _doubts(*checks: str, seen: tuple[str, ...] = (), beyond: float = 0.0) -> Doubts:
    return Doubts(frozenset(checks), seen, beyond)


def _wanted(doubts: Doubts) -> list[str]:
    return [stage.name for stage in STAGES if stage.wanted(doubts)]


def test_what_is_in_doubt_decides_what_is_tried() -> None:
    assert _wanted(_doubts()) == [] and _wanted(_doubts(beyond=0.02)) == []
    assert _wanted(_doubts(beyond=0.03)) == ["rapid"] == _wanted(_doubts("restarts"))
    assert _wanted(_doubts("gradients")) == ["rapid", "straight through", "averaged gradients", "surrogate", "queries"]
    assert _wanted(_doubts("variations", seen=("channels last",))) == ["seen otherwise"]
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
    scene = Scene(model, *images, "linf", 0.2, torch.Generator().manual_seed(0), (), AuditBudget(pgd_steps=20))
    stage = next(stage for stage in STAGES if stage.name == "straight through")
    stage.attack(Given(scene, _doubts("gradients")))
    assert len(scene.standing) == int(right.sum()) and float(scene.standing.double().mean()) <= 0.05
