"""Budgets: the user's words, the share that is spent, and the sentence for what is no budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.errors import InputError
from parapet.search.budget import Budget


def budget(text: str | None) -> Budget:
    return Budget.parse(text, 8, 4)


@pytest.mark.parametrize(("text", "candidates", "seconds", "device_seconds"), [
    ("200 candidates", 200, 0, 0), ("1 candidate", 1, 0, 0), ("1e3 Candidates", 1000, 0, 0), (None, 32, 0, 0),
    ("90 minutes", 0, 5400, 0), ("1 minute", 0, 60, 0), ("1.5 hours", 0, 5400, 0), (" 1   hour ", 0, 3600, 0),
    (".5hours", 0, 1800, 0), ("8 gpu-hours", 0, 0, 28_800), ("1 GPU hour", 0, 0, 3600), ("0.25 GPU-hours", 0, 0, 900),
])
def test_what_exhausts_a_budget(text: str | None, candidates: int, seconds: float, device_seconds: float) -> None:
    spending = (candidates, seconds, device_seconds)
    assert budget(text).spent(*spending) == 1.0 and budget(text).exhausted(*spending)
    less = [value - (value > 0) for value in spending]
    assert budget(text).spent(*less) < 1.0 and not budget(text).exhausted(*less)
    assert budget(text).spent(*(2 * value for value in spending)) == 2.0


def test_a_budget_is_spent_by_its_own_unit_alone() -> None:
    assert budget("10 candidates").spent(5, 1e9, 1e9) == 0.5
    assert budget("1 hour").spent(10**9, 900.0, 1e9) == 0.25
    assert budget("1 gpu-hour").spent(10**9, 1e9, 2700.0) == 0.75


@pytest.mark.parametrize(("text", "words"), [
    ("2 hours", "2 hours"), ("  8  GPU-hours ", "8 GPU-hours"), ("1 candidate", "1 candidate"),
    (None, "32 candidates")])
def test_it_reads_as_the_user_put_it(text: str | None, words: str) -> None:
    assert str(budget(text)) == words


@given(st.integers(0, 10**6), st.floats(0, 1e9), st.floats(0, 1e9),
       st.sampled_from(["7 candidates", "9 minutes", "1.5 hours", "3 gpu-hours"]))
def test_the_share_is_never_negative_and_grows_with_what_is_spent(candidates: int, seconds: float, device: float,
                                                                  text: str) -> None:
    share = budget(text).spent(candidates, seconds, device)
    assert 0 <= share <= budget(text).spent(candidates + 1, seconds + 1, device + 1)


ALLOWED = "write for example 200 candidates, 90 minutes, 2 hours or 8 gpu-hours."


@pytest.mark.parametrize(("text", "sentence"), [
    ("3 fortnights", f"search.budget is '3 fortnights'; {ALLOWED}"),
    ("200", "search.budget is '200', and a number needs a unit; write 200 candidates, 200 minutes, 200 hours or 200 "
            "gpu-hours."),
    ("", f"search.budget is ''; {ALLOWED}"),
    ("hours", f"search.budget is 'hours'; {ALLOWED}"),
    ("nan hours", f"search.budget is 'nan hours'; {ALLOWED}"),
    ("two hours", f"search.budget is 'two hours'; {ALLOWED}"),
    ("2 hours or 9 candidates", f"search.budget is '2 hours or 9 candidates'; {ALLOWED}"),
    ("1.5 candidates", f"search.budget is '1.5 candidates', and candidates are whole; {ALLOWED}"),
    *((text, f"search.budget is '{text}', and a search needs more than nothing and less than everything; {ALLOWED}")
      for text in ("0 hours", "-2 candidates", "1e999 hours")),
])
def test_what_is_no_budget_is_told_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        budget(text)
    assert str(caught.value) == sentence
