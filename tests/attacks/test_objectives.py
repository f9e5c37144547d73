"""The objectives by hand: what they are, in which precision, and where logits are tied or enormous."""

from __future__ import annotations

import math

import pytest
import torch

from parapet.attacks.objectives import cross_entropy, dlr, log_odds, margin, precise, targeted_dlr


@pytest.mark.parametrize(("given", "expected"), [
    (torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64)])
def test_logits_are_taken_in_single_precision_at_least(given: torch.dtype, expected: torch.dtype) -> None:
    assert precise(torch.zeros(2, 3, dtype=given)).dtype == expected


def test_log_odds_by_hand_and_against_cross_entropy() -> None:
    rows, labels = [[1.0, 2.0, 0.5, -3.0], [-1.0, 0.0, 0.0, 4.0], [0.2, 0.2, 0.2, 0.2]], [0, 3, 1]
    logits = torch.tensor(rows, dtype=torch.float64)
    found = log_odds(logits, torch.tensor(labels)).tolist()
    for row, label, value in zip(rows, labels, found):
        others = [math.exp(one - row[label]) for place, one in enumerate(row) if place != label]
        assert value == pytest.approx(math.log(sum(others) / 3), abs=1e-12)
    # Cross-entropy is log(1 + (K - 1) exp(log-odds)).
    expected = cross_entropy(logits, torch.tensor(labels)).tolist()
    assert [math.log1p(3 * math.exp(value)) for value in found] == pytest.approx(expected)


def test_log_odds_of_a_model_that_is_sure_still_have_a_slope() -> None:
    logits = torch.tensor([[200.0, 1.0, 1.0]], requires_grad=True)
    value = log_odds(logits, torch.tensor([0]))
    slope, = torch.autograd.grad(value.sum(), logits)
    assert float(value.detach()) == pytest.approx(-199.0) and slope.tolist() == [pytest.approx([-1.0, 0.5, 0.5])]


def test_two_classes_have_no_third_logit() -> None:
    logits, labels = torch.tensor([[2.0, 5.0], [3.0, 1.0]]), torch.tensor([0, 0])
    assert dlr(logits, labels).tolist() == margin(logits, labels).tolist() == [3.0, -2.0]


def test_tied_logits_have_a_ratio_of_nothing() -> None:
    logits, labels = torch.full((1, 5), 2.0), torch.tensor([0])
    assert dlr(logits, labels).tolist() == [0.0] and targeted_dlr(torch.tensor([1]))(logits, labels).tolist() == [0.0]


def test_the_targeted_ratio_has_the_same_scale_where_a_sum_of_two_logits_overflows() -> None:
    logits, labels = torch.tensor([[3.0, 2.5, 2.0, 1.9, -0.1]]), torch.tensor([0])
    ratio = targeted_dlr(torch.tensor([4]))
    torch.testing.assert_close(ratio(logits * 1e38, labels), ratio(logits, labels))


def test_the_targeted_ratio_keeps_a_slope_where_a_sum_of_two_logits_overflows() -> None:
    logits = torch.tensor([[3e38, 3e38, 3e38, 3e38, 2e38]], requires_grad=True)
    value = targeted_dlr(torch.tensor([4]))(logits, torch.tensor([0]))
    slope, = torch.autograd.grad(value.sum(), logits)
    assert torch.isfinite(value).all() and value.item() < 0
    assert slope[0, 4] > 0 > slope[0, 0]  # towards the target, away from the label
