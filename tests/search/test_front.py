"""The front, its hypervolume and the choice of one member, by hand."""

from __future__ import annotations

import pytest

from parapet.errors import InputError
from parapet.search.front import front, hypervolume, hypervolume_curve, identity, objectives
from parapet.search.selection import select

NAMES = ("clean_error", "robust_error", "flops")


def _record(name: str, clean: float, robust: float, flops: int, *, generation: int = 0, feasible: bool = True,
            latency: float = 0.1) -> dict:
    return {"id": name, "genome": {"width": flops}, "generation": generation, "flops": flops, "params": flops,
            "status": "feasible" if feasible else "infeasible", "training_seconds": 2.0,
            "validation": {"clean_accuracy": clean, "robust_accuracy": robust}, "latency_ms": {"p50": latency}}


RECORDS = [
    _record("cheap", 0.90, 0.40, 1_000),
    _record("dominated", 0.89, 0.40, 2_000, generation=1),
    _record("strong", 0.95, 0.70, 100_000, generation=1),
    _record("broken", 0.99, 0.99, 10, feasible=False),
]


def test_the_front_is_feasible_and_not_dominated() -> None:
    assert [record["id"] for record in front(RECORDS, NAMES)] == ["cheap", "strong"]


def test_of_equal_candidates_one_stays() -> None:
    assert len(front([RECORDS[0], {**RECORDS[0], "id": "twin"}], NAMES)) == 1


def test_no_feasible_candidate_is_an_empty_front() -> None:
    assert front([RECORDS[3]], NAMES) == []


def test_flops_count_by_their_logarithm() -> None:
    assert objectives(RECORDS[2], NAMES) == pytest.approx([0.05, 0.3, 5.0])
    assert objectives(RECORDS[3], NAMES) is None


def test_hypervolume_of_one_and_two_points_by_hand() -> None:
    ideal, reference = (0.0, 0.0, 3.0), (1.0, 1.0, 7.0)
    assert hypervolume(RECORDS[:1], ideal, reference) == pytest.approx(0.9 * 0.4 * 1.0)
    both = 0.9 * 0.4 * 1.0 + 0.95 * 0.7 * 0.5 - 0.9 * 0.4 * 0.5
    assert hypervolume(RECORDS, ideal, reference) == pytest.approx(both)
    assert hypervolume([], ideal, reference) == 0.0


def test_hypervolume_never_falls_from_generation_to_generation() -> None:
    rows = hypervolume_curve(RECORDS, (0.0, 0.0, 3.0), (1.0, 1.0, 7.0))
    assert [row["generation"] for row in rows] == [0, 1]
    assert rows[0]["hypervolume"] <= rows[1]["hypervolume"] and rows[1]["candidates"] == 4
    assert rows[1]["training_seconds"] == 8.0


def test_identity_forgets_latency_and_order() -> None:
    first, second = RECORDS[0], RECORDS[2]
    assert identity([first, second]) == identity([{**second, "latency_ms": {"p50": 9.0}}, first])
    assert identity([first]) != identity([{**first, "flops": 1_001}])


def test_constraints_choose_the_cheapest_that_meets_them() -> None:
    chosen, reason = select(front(RECORDS, NAMES), "robust_accuracy >= 0.3, latency_ms <= 0.2")
    assert chosen["id"] == "cheap" and "fewest FLOPs (1,000) of the 2 members" in reason
    assert select(front(RECORDS, NAMES), "robust_accuracy>=0.5")[0]["id"] == "strong"


def test_the_knee_is_a_compromise() -> None:
    middle = _record("middle", 0.94, 0.65, 3_000)
    assert select([RECORDS[0], middle, RECORDS[2]], "knee")[0]["id"] == "middle"


@pytest.mark.parametrize(("wish", "sentence"), [
    ("robust_accuracy >= 0.9", "the nearest is strong with robust_accuracy 0.7"),
    ("robustness >= 0.9", "the constraint 'robustness >= 0.9' cannot be read; write knee, or QUANTITY >= NUMBER"),
    ("flops <= -", "the constraint 'flops <= -' has no number after <="),
    ("flops <= 1e", "has no number after <="),
])
def test_wishes_that_cannot_be_read_or_met_are_told(wish: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        select(front(RECORDS, NAMES), wish)
    assert sentence in str(caught.value)
