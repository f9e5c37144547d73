"""Intervals and p-values worked out by hand; tests/attacks/test_suite.py has scipy's."""

from __future__ import annotations

import pytest

from parapet.intervals import sign_test, wilson


def test_the_interval_of_one_half_of_ten() -> None:
    # z = 1.96: centre 0.5, half width z / (1 + z^2/10) sqrt(0.025 + z^2/400) = 0.2634
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_intervals_end_at_nothing_and_at_all() -> None:
    # One of one: (1 + z^2/2 +- z^2/2) / (1 + z^2), from 1 / (1 + z^2) = 0.2065 to 1.
    assert wilson(1, 1) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert wilson(0, 1) == pytest.approx((0.0, 0.7935), abs=1e-4)


def test_coins_by_hand() -> None:
    assert sign_test(3, 0) == pytest.approx(1 / 8)  # three heads of three
    assert sign_test(2, 1) == pytest.approx(4 / 8)  # two or three of three
    assert sign_test(0, 3) == pytest.approx(1.0)
