"""Learning-rate schedules: their corners by hand."""

from __future__ import annotations

import pytest

from parapet.config import SCHEDULES
from parapet.training import schedules
from parapet.training.schedules import cosine, cyclic, piecewise


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_rate_is_positive_and_at_most_the_peak(name: str) -> None:
    rates = [getattr(schedules, name)(step, 200, 0.3) for step in range(200)]
    assert all(0 < rate <= 0.3 + 1e-12 for rate in rates) and max(rates) > 0.29


def test_piecewise_falls_at_a_half_and_at_three_quarters() -> None:
    assert [piecewise(step, 200, 1.0) for step in (0, 99, 100, 149, 150, 199)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_triangle_peaks_at_two_fifths() -> None:
    rates = [cyclic(step, 99, 1.0) for step in range(99)]
    assert rates.index(max(rates)) == 39 and rates[39] == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.025) and rates[-1] == pytest.approx(0.01 / 0.6)


def test_a_cosine_is_half_way_at_a_half() -> None:
    assert cosine(0, 10, 0.2) == pytest.approx(0.2) and cosine(5, 10, 0.2) == pytest.approx(0.1)
