"""From numbers to verdicts: shares, thresholds, and the worst of several verdicts."""

from __future__ import annotations

import pytest
import torch

from parapet.attacks.audit.verdicts import judge_gap_beyond, judge_share, mean, result, worst


def test_the_share_of_nothing_is_nothing() -> None:
    assert mean(torch.tensor([True, False, False, False])) == 0.25 and mean(torch.ones(3, dtype=torch.bool)) == 1.0
    assert mean(torch.zeros(0, dtype=torch.bool)) == 0.0


@pytest.mark.parametrize(("share", "verdict"), [(0.0, "pass"), (0.1875, "pass"), (0.25, "warn"), (0.4375, "warn"),
                                                (0.5, "fail"), (1.0, "fail")])
def test_a_share_is_warned_of_and_fails_from_its_threshold_on(share: float, verdict: str) -> None:
    found = judge_share("name", share, {}, "Advice.", "Praise.", warn=0.25, fail=0.5)
    assert found["verdict"] == verdict and found["advice"] == ("Praise." if verdict == "pass" else "Advice.")


def test_a_number_that_json_does_not_have_becomes_none() -> None:
    numbers = {"nan": float("nan"), "infinite": float("inf"), "count": 3, "share": 0.5, "list": [1.0]}
    assert result("name", "pass", numbers, "")["numbers"] == {**numbers, "nan": None, "infinite": None}


def test_the_worst_verdict_is_that_of_the_whole() -> None:
    checks = [result("name", verdict, {}, "") for verdict in ("warn", "pass", "fail", "warn")]
    assert worst(checks) == "fail" and worst(checks[:2]) == "warn" and worst(checks[1:2]) == worst([]) == "pass"


@pytest.mark.parametrize(("broken", "verdict"), [(0, "pass"), (2, "pass"), (3, "warn"), (5, "warn"), (7, "fail")])
def test_what_breaks_beyond_all_known_attacks_is_judged(broken: int, verdict: str) -> None:
    known, after = torch.arange(100) < 60, (torch.arange(100) >= broken) & (torch.arange(100) < 80)
    found = judge_gap_beyond("name", known, after, {}, "Advice.", "something is odd", False)
    assert found["verdict"] == verdict and found["numbers"]["gap"] == pytest.approx(broken / 100)
    assert found["advice"] == ("The attacks agree." if verdict == "pass" else "Advice.")


def test_a_finding_that_other_attacks_hold_already_is_taken_into_account() -> None:
    known, after = torch.arange(100) < 60, torch.arange(100) < 70
    found = judge_gap_beyond("name", known, after, {}, "Advice.", "something is odd", True)
    assert found["verdict"] == "pass"
    assert found["advice"] == "Taken into account: something is odd, and other attacks break these images too."
    found = judge_gap_beyond("name", known, torch.arange(100) < 50, {}, "Advice.", "something", True)
    assert found["advice"] == "Advice."


@pytest.mark.parametrize(("count", "of"), [(5, 100), (1, 5), (3, 10), (7, 200), (0, 3), (3, 3)])
def test_a_share_is_not_above_the_limit_that_it_equals(count: int, of: int) -> None:
    assert mean(torch.arange(of) < count) == count / of
