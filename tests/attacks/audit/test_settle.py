"""The adaptive stage: which doubts ask for which attack, and that a masked net ends at its true number."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import AuditBudget
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.settle import STAGES, Doubts, Given, settle
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict
from parapet.models import save
from tests.attacks import maskers
from tests.attacks.test_stand_ins import Rounding

BUDGET = AuditBudget(pgd_steps=20)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=80).all()


def _doubts(*checks: str, seen: tuple[str, ...] = (), beyond: float = 0.0) -> Doubts:
    return Doubts(frozenset(checks), seen, beyond)


def _settled(model: Any, images: tuple[Tensor, Tensor], doubts: Doubts, **options: Any) -> Any:
    right = predict(model, images[0]) == images[1]
    return settle(model, *images, norm="linf", eps=0.2, standing=right, doubts=doubts, limits=BUDGET,
                  generator=torch.Generator().manual_seed(0), **options)


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


def test_nothing_is_done_without_a_doubt_or_where_nothing_stands(honest, images) -> None:
    assert _settled(honest.network, images, _doubts()) is None
    assert settle(honest.network, *images, norm="linf", eps=0.2, doubts=_doubts("gradients"),
                  standing=torch.zeros(80, dtype=torch.bool)) is None


@pytest.mark.parametrize("masker", [maskers.gradient_killed, maskers.rounded_logits, maskers.shattered,
                                    maskers.gradient_turned], ids=lambda masker: masker.__name__)
def test_an_undefended_net_behind_a_masker_ends_within_five_points_of_nothing(undefended, images, masker: Any) -> None:
    model = masker(undefended.network)
    found = _settled(model, images, _doubts("gradients", "uphill", "black_box"))
    assert float(found.stands.double().mean()) <= 0.05 and found.by is not None
    broken = ~found.stands & (predict(model, images[0]) == images[1])
    assert (distance(found.points, images[0], "linf") <= 0.2).all()
    assert (predict(model, found.points)[broken] != images[1][broken]).all()


def test_a_module_whose_layer_rounds_is_attacked_straight_through_it(undefended, images) -> None:
    model = torch.nn.Sequential(Rounding(), undefended.network)
    right = predict(model, images[0]) == images[1]
    scene = Scene(model, *images, "linf", 0.2, torch.Generator().manual_seed(0), (), BUDGET)
    stage = next(stage for stage in STAGES if stage.name == "straight through")
    stage.attack(Given(scene, _doubts("gradients")))
    assert len(scene.standing) == int(right.sum()) and float(scene.standing.double().mean()) <= 0.05


@pytest.mark.parametrize(("masker", "seen"), [(maskers.one_at_a_time, "one at a time"),
                                              (maskers.in_inference_mode, "in inference mode")])
def test_one_that_is_seen_otherwise_is_attacked_as_it_is_seen(undefended, honest, images, masker: Any,
                                                              seen: str) -> None:
    model = masker(undefended.network, honest.network)
    found = _settled(model, images, _doubts("deployed", seen=(seen,)))
    assert found.by == "seen otherwise" and float(found.stands.double().mean()) <= 0.05
    assert [stage["name"] for stage in found.stages] == ["seen otherwise"]


def test_one_that_remembers_is_attacked_as_a_copy(undefended, images, tmp_path) -> None:
    save(undefended.network, tmp_path / "net.safetensors")
    loader = partial(maskers.from_file, maskers.Memo, str(tmp_path / "net.safetensors"))
    model = loader()
    found = _settled(model, images, _doubts("memory"), loader=loader)
    assert found.by == "copy" and float(found.stands.double().mean()) <= 0.05


def test_the_same_seed_settles_alike(undefended, images) -> None:
    model = maskers.gradient_killed(undefended.network)
    first, second = (_settled(model, images, _doubts("transfer"), surrogates=[undefended.network]) for _ in range(2))
    assert torch.equal(first.stands, second.stands) and torch.equal(first.points, second.points)
    assert first.stages == second.stages
    assert [stage["name"] for stage in first.stages][:1] == ["rapid"] and first.by in ("rapid", "transfer")
