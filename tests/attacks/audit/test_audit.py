"""The report of the audit: verdict, numbers and advice of every check, surviving images; the model is unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import CHEAP_CHECKS, CHECKS, DEEP_CHECKS, AuditBudget, audit
from parapet.attacks.audit.verdicts import judge_gap
from parapet.errors import InputError

QUICK = AuditBudget(pgd_steps=5, restarts=2, targeted_steps=5, targets=2, square_queries=20, decision_queries=30,
                    decision_images=4, noise_draws=10)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=100).all()


def _audit(model, images: tuple[Tensor, Tensor], **options) -> dict:
    return audit(model, *images, norm="linf", eps=0.2, generator=torch.Generator().manual_seed(0), limits=QUICK,
                 **options)


def test_numbers_stand_behind_every_verdict(honest, undefended, images) -> None:
    result = _audit(honest.network, images, surrogates=[undefended.network])
    assert [check["id"] for check in result["checks"]] == [name for name in CHECKS if name not in DEEP_CHECKS]
    for check in result["checks"]:
        assert check["numbers"] and check["advice"].endswith(".")
        assert check["verdict"] in ("pass", "warn", "fail")


def test_without_a_surrogate_transfer_is_not_claimed(honest, images) -> None:
    assert [check["id"] for check in _audit(honest.network, images)["checks"]] == [
        name for name in CHECKS if name not in ("transfer", *DEEP_CHECKS)]


def test_survivors_are_those_that_no_check_broke(honest, images) -> None:
    result = _audit(honest.network, images)
    right = (honest.network(images[0]).argmax(1) == images[1]).tolist()
    marks = [mark == "1" for mark in result["survived"]]
    assert len(marks) == 100 and sum(marks) > 10
    assert all(right[place] for place in range(100) if marks[place])
    white = next(check["numbers"]["white_box"] for check in result["checks"] if check["id"] == "black_box")
    assert sum(marks) <= white * sum(right) + 1e-6


def test_the_same_seed_gives_the_same_report(honest, images) -> None:
    assert {**_audit(honest.network, images), "seconds": 0} == {**_audit(honest.network, images), "seconds": 0}


def test_l2_is_audited_too(honest, images) -> None:
    result = audit(honest.network, *images, norm="l2", eps=0.8, generator=torch.Generator().manual_seed(0),
                   limits=QUICK)
    assert result["verdict"] != "fail", [check for check in result["checks"] if check["verdict"] == "fail"]


def test_the_cheap_checks_alone_can_be_asked_for(honest, images) -> None:
    result = _audit(honest.network, images, checks=CHEAP_CHECKS)
    assert {check["id"] for check in result["checks"]} == set(CHEAP_CHECKS)


def test_a_check_that_is_not_there_is_refused(honest, images) -> None:
    with pytest.raises(InputError, match="checks names gradient; allowed: well_formed, gradients"):
        _audit(honest.network, images, checks=["gradient"])


def test_a_net_that_is_always_wrong_fails(images) -> None:
    wrong = (images[1] + 1) % 10

    def model(batch: Tensor) -> Tensor:
        return 9 * torch.eye(10)[wrong[:len(batch)]] + 0 * batch.sum()
    result = _audit(model, images)
    assert result["verdict"] == "fail" and set(result["survived"]) == {"0"}


def test_too_few_images_are_no_evidence(honest, images) -> None:
    result = _audit(honest.network, (images[0][:20], images[1][:20]))
    assert result["verdict"] != "pass"
    advice = next(check["advice"] for check in result["checks"] if check["id"] == "well_formed")
    assert "too few to tell chance from masking" in advice


def test_the_model_comes_back_as_it_was(honest, images) -> None:
    network = honest.network.train()
    try:
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        _audit(network, images)
        assert network.training and all(parameter.requires_grad for parameter in network.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    finally:
        network.eval()


@pytest.mark.parametrize(("broken", "verdict"), [(0, "pass"), (2, "pass"), (3, "warn"), (6, "warn"), (7, "fail")])
def test_a_gap_fails_where_a_paired_test_calls_it_real(broken: int, verdict: str) -> None:
    """Of 100 images 6 are above 5 points but p = 1/64; 7 give p = 1/128."""
    before = torch.ones(100, dtype=torch.bool)
    after = before.clone()
    after[:broken] = False
    assert judge_gap("name", before, after, {}, "Advice.")["verdict"] == verdict
