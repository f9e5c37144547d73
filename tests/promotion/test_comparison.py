"""The paired test: known answers, and the same p-values as scipy's exact binomial test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from parapet.config import Params
from parapet.errors import WorkError
from parapet.processes.pool import Task, TaskResult
from parapet.promotion import comparison
from parapet.promotion.comparison import Comparison, Paired


def paired(only_champion: int, only_challenger: int, both: int = 10, neither: int = 5) -> Paired:
    champion = np.array([True] * only_champion + [False] * only_challenger + [True] * both + [False] * neither)
    challenger = np.array([False] * only_champion + [True] * only_challenger + [True] * both + [False] * neither)
    return Paired.of(champion, challenger)


def test_only_pairs_that_differ_count() -> None:
    assert paired(5, 0) == Paired(20, 5, 0, 1 / 32)
    assert paired(5, 0, both=1000, neither=0).p == paired(5, 0).p
    assert paired(0, 0).p == 1 and paired(0, 5).p == 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_the_exact_one_sided_binomial_one(only_champion: int, only_challenger: int) -> None:
    found, n = paired(only_champion, only_challenger), only_champion + only_challenger
    if n:
        expected = binomtest(only_champion, n, 0.5, alternative="greater").pvalue
        assert found.p == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_a_model_is_never_worse_than_itself_and_at_most_one_of_two_is_worse(marks: list[tuple[bool, bool]]) -> None:
    first, second = (np.array(row) for row in zip(*marks))
    assert Paired.of(first, first).p == 1
    assert Paired.of(first, second).p + Paired.of(second, first).p >= 1


def test_a_refusal_says_the_pairs_and_the_p_value() -> None:
    found = Comparison(clean=paired(3, 4), robust=paired(30, 6))
    sentence, = found.refusals("the champion (version 4)", 0.05)
    assert sentence == (
        "it is worse than the champion (version 4) in robust accuracy beyond noise: of 51 test images 30 are right "
        "with the champion alone and 6 with this one alone (one-sided exact McNemar test, p = 3.5e-05, below "
        "promotion.significance 0.05)")
    assert found.refusals("the champion", 1e-6) == []
    assert len(Comparison(clean=paired(30, 6), robust=paired(30, 6)).refusals("the champion", 0.05)) == 2


class _Workers:
    """Two workers that are half done and then done, or fail, one after the other."""

    def __init__(self, devices: Sequence[str], **options: Any) -> None:
        self.devices = devices

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end."""

    def run(self, tasks: Sequence[Task], tell: Callable[[int, str, float], None]) -> Iterator[tuple[int, TaskResult]]:
        assert len(self.devices) <= len(tasks)
        for place, task in enumerate(tasks):
            tell(place, "apgd_ce", 0.5)
            yield place, TaskResult(None, "it died") if task.name == "fails" else TaskResult({})


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What the progress of the gate shows."""
    told: list[tuple[float, str]] = []

    @contextmanager
    def progress(name: str, total: float, unit: str) -> Iterator[Any]:
        assert (name, total, unit) == ("gate", 2, "models")
        yield type("Shown", (), {"update": staticmethod(lambda share, text: told.append((share, text)))})

    monkeypatch.setattr(comparison, "Workers", _Workers)
    monkeypatch.setattr(comparison, "Progress", progress)
    return told


def test_the_progress_adds_up_what_is_done_of_both_models(shown: list[tuple[float, str]]) -> None:
    comparison.work([Task("challenger", "", {}), Task("champion", "", {})], Params(), ["cpu"] * 4)
    assert shown == [(0.5, "challe apgd_ce"), (1.0, ""), (1.5, "champi apgd_ce"), (2.0, "done")]


def test_an_attack_that_failed_says_whose_and_why(shown: list[tuple[float, str]]) -> None:
    with pytest.raises(WorkError, match="the attack on fails failed: it died; the champion stays"):
        comparison.work([Task("challenger", "", {}), Task("fails", "", {})], Params(), ["cpu"])
