"""The rapid version of AutoAttack: its two stages, and that it finds what the standard one finds."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from parapet.attacks import a3, auto_attack, evaluate, pgd_suite, rapid, search_suite
from parapet.attacks.balls import distance
from parapet.attacks.compositions import auto_attack_suite, catalogue, named_suite
from parapet.attacks.gradient.a3 import Round, brief
from parapet.attacks.inputs import predict
from parapet.attacks.noise import derived
from parapet.attacks.query_counter import QueryCounter
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, ManyClasses


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 0.8)])
def test_it_finds_what_the_standard_version_finds_with_a_tenth_of_its_passes(honest, digits, norm: str,
                                                                             eps: float) -> None:
    images, labels = digits.split("test", limit=100).all()
    stands, passes = [], []
    for version in ("rapid", "standard"):
        counter = QueryCounter()
        points = auto_attack(counter.of(honest.network), images, labels, eps=eps, norm=norm, version=version)
        assert (distance(points, images, norm) <= eps).all()
        stands.append(int((predict(honest.network, points) == labels).sum()))
        passes.append(3 * counter.with_gradient + counter.queries)
    assert 10 < stands[0] <= stands[1]
    assert 8 * passes[0] < passes[1]


def test_square_begins_where_a3_ended_on_what_stands(honest, digits, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = digits.split("test", limit=60).all()
    seeds = torch.arange(60)
    ends = a3(honest.network, images, labels, eps=0.2, generator=derived(seeds, 0))
    stands = predict(honest.network, ends) == labels
    given: dict[str, object] = {}

    def square(model: object, images: Tensor, labels: Tensor, **options: object) -> Tensor:
        given.update(options, images=images, labels=labels)
        return images
    monkeypatch.setattr(sys.modules["parapet.attacks.rapid"], "square", square)
    found = rapid(honest.network, images, labels, eps=0.2, queries=70, patience=9, generator=seeds)
    assert torch.equal(given.pop("start"), ends[stands]) and torch.equal(given.pop("images"), images[stands])
    assert torch.equal(given.pop("labels"), labels[stands])
    assert torch.equal(given.pop("generator"), derived(seeds, 1)[stands])
    assert given == {"eps": 0.2, "norm": "linf", "queries": 70, "patience": 9, "initial_share": 0.1}
    assert torch.equal(found[stands], images[stands]) and torch.equal(found[~stands], ends[~stands])


def test_without_queries_it_is_a3_alone(honest, digits) -> None:
    images, labels = digits.split("test", limit=30).all()
    seeds = torch.arange(30)
    assert torch.equal(rapid(honest.network, images, labels, eps=0.1, queries=0, generator=seeds),
                       a3(honest.network, images, labels, eps=0.1, generator=derived(seeds, 0)))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 0.8)])
def test_its_small_budget_leaves_no_more_than_pgd_does(honest, digits, norm: str, eps: float) -> None:
    images, labels = digits.split("validation", limit=100).all()
    setting = {"norm": norm, "eps": eps, "generator": torch.Generator().manual_seed(0)}
    short = evaluate(honest.network, images, labels, suite=search_suite(), **setting)
    known = evaluate(honest.network, images, labels, suite=pgd_suite(pgd_steps=20, pgd_restarts=1), **setting)
    assert short["robust_accuracy"] <= known["robust_accuracy"] + 0.01
    spent = short["attacks"]["rapid"]
    assert spent["gradient_evaluations"] <= (15 + 8 + 30) * 100 and spent["queries"] > 0
    seeds = torch.arange(100)
    assert torch.equal(
        rapid(honest.network, images, labels, eps=eps, norm=norm, steps=8, queries=0, generator=seeds),
        a3(honest.network, images, labels, eps=eps, norm=norm, rounds=brief(norm, 8), generator=derived(seeds, 0)))


def test_it_can_be_asked_for_by_name() -> None:
    assert [attack.name for attack in auto_attack_suite("rapid")] == ["rapid"]
    assert named_suite("rapid")[0].survivors_only and catalogue("l2")["rapid"].function is rapid


def test_nothing_to_attack_and_wrong_input() -> None:
    model, none = ManyClasses(3), torch.zeros(0, dtype=torch.int64)
    assert rapid(model, torch.zeros(0, *SHAPE), none, eps=0.1).shape == (0, *SHAPE)
    with pytest.raises(InputError, match="rapid got queries=-1; it must be at least 0, which leaves Square out"):
        rapid(model, torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64), eps=0.1, queries=-1)
    for wrong in ({"steps": 0}, {"steps": 3, "rounds": [Round(1.0, 3)]}):
        with pytest.raises(InputError, match=r"rapid got steps=\d; it must be at least 1, and goes without rounds"):
            rapid(model, torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64), eps=0.1, **wrong)
    with pytest.raises(InputError, match="eps is 3; it must lie in"):
        rapid(model, torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64), eps=3.0)
