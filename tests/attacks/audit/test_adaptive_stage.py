"""The adaptive stage finds the true robust accuracy of a masked network, by the attack that fits it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import AuditBudget
from parapet.attacks.audit.adaptive_attacks import Doubts
from parapet.attacks.audit.adaptive_stage import run_adaptive_stage
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict
from parapet.models import save
from tests.attacks import maskers

BUDGET = AuditBudget(pgd_steps=20)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=80).all()


def _doubts(*checks: str, variations: tuple[str, ...] = (), beyond: float = 0.0) -> Doubts:
    return Doubts(frozenset(checks), variations, beyond)


def _settled(model: Any, images: tuple[Tensor, Tensor], doubts: Doubts, **options: Any) -> Any:
    right = predict(model, images[0]) == images[1]
    return run_adaptive_stage(model, *images, norm="linf", eps=0.2, standing=right, doubts=doubts, limits=BUDGET,
                  generator=torch.Generator().manual_seed(0), **options)


def test_nothing_is_done_without_a_doubt_or_where_nothing_stands(honest, images) -> None:
    assert _settled(honest.network, images, _doubts()) is None
    assert run_adaptive_stage(honest.network, *images, norm="linf", eps=0.2, doubts=_doubts("gradients"),
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


@pytest.mark.parametrize(("masker", "seen"), [(maskers.one_at_a_time, "one at a time"),
                                              (maskers.in_inference_mode, "in inference mode")])
def test_one_that_is_seen_otherwise_is_attacked_as_it_is_seen(undefended, honest, images, masker: Any,
                                                              seen: str) -> None:
    model = masker(undefended.network, honest.network)
    found = _settled(model, images, _doubts("deployed", variations=(seen,)))
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
