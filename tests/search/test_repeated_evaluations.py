"""Several evaluations as one, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.intervals import wilson
from parapet.search.repeated_evaluations import pooled, window


def _result(look: int, n: int, clean: float, robust: float, available: int, verdict: str = "pass") -> dict:
    return {"status": "done", "look": look, "images": n, "available": available,
            "audit": {"verdict": verdict, "checks": [f"of look {look}"]},
            "evaluation": {"n": n, "clean_accuracy": clean, "clean_interval": list(wilson(clean * n, n)),
                           "robust_accuracy": robust, "robust_interval": list(wilson(robust * n, n)),
                           "attacks": {"pgd": {"alone": robust + 0.1, "left": None, "steps": 20},
                                       "audit": {"alone": None, "left": robust, "steps": 0}}}}


@pytest.mark.parametrize(("look", "count", "available", "expected"), [
    (1, 3, 10, [0, 1, 2]),
    (2, 3, 10, [3, 4, 5]),
    (4, 3, 10, [9, 0, 1]),  # around
    (2, 5, 5, [0, 1, 2, 3, 4]),
    (3, 99, 4, [0, 1, 2, 3]),  # more than there are
])
def test_windows_by_hand(look: int, count: int, available: int, expected: list[int]) -> None:
    assert window(look, count, available) == expected


@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 60))
def test_a_window_holds_different_images(look: int, count: int, available: int) -> None:
    places = window(look, count, available)
    assert len(places) == len(set(places)) == min(count, available)
    assert all(0 <= place < available for place in places)


@given(st.integers(1, 20), st.integers(1, 200))
def test_looks_share_no_image_while_there_are_enough(count: int, available: int) -> None:
    looks = [window(look, count, available) for look in range(1, available // count + 1)]
    places = [place for look in looks for place in look]
    assert len(places) == len(set(places))


def test_one_look_is_as_it_is() -> None:
    only = _result(1, 100, 0.9, 0.5, 1000)
    assert pooled([only]) is only


def test_means_of_different_images() -> None:
    """100 and 100 images of 1000: 0.9 and 0.8 correct is 0.85 of 200."""
    found = pooled([_result(1, 100, 0.9, 0.5, 1000), _result(2, 100, 0.8, 0.3, 1000)])["evaluation"]
    assert found["n"] == 200
    assert found["clean_accuracy"] == pytest.approx(0.85) and found["robust_accuracy"] == pytest.approx(0.4)
    assert found["clean_interval"] == pytest.approx(list(wilson(170, 200)))
    assert found["robust_interval"] == pytest.approx(list(wilson(80, 200)))
    assert found["attacks"] == {"pgd": {"alone": pytest.approx(0.5), "left": None, "steps": 20},
                                "audit": {"alone": None, "left": pytest.approx(0.4), "steps": 0}}


def test_accuracies_are_weighted_by_images() -> None:
    found = pooled([_result(1, 100, 0.9, 0.6, 1000), _result(2, 300, 0.5, 0.2, 1000)])["evaluation"]
    assert found["clean_accuracy"] == pytest.approx(0.6) and found["robust_accuracy"] == pytest.approx(0.3)


def test_an_image_met_twice_makes_no_interval_narrower() -> None:
    """150 images: the second look at 100 begins again at the first after 50."""
    looks = [_result(1, 100, 0.9, 0.5, 150), _result(2, 100, 0.9, 0.5, 150)]
    assert pooled(looks)["evaluation"]["n"] == 150
    same = pooled([_result(1, 100, 0.9, 0.5, 100), _result(2, 100, 0.9, 0.5, 100)])["evaluation"]
    assert same["n"] == 100 and same["robust_interval"] == pytest.approx(list(wilson(50, 100)))


@given(st.lists(st.sampled_from(("pass", "warn", "fail")), min_size=2, max_size=5))
def test_the_worst_verdict_holds_with_its_checks(verdicts: list[str]) -> None:
    found = pooled([_result(look, 10, 0.9, 0.5, 1000, verdict) for look, verdict in enumerate(verdicts, 1)])["audit"]
    worst = "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "pass"
    assert found == {"verdict": worst, "checks": [f"of look {verdicts.index(worst) + 1}"]}
