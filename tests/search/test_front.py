"""The front, its hypervolume, ties and the order of promotion, by hand and against a slow definition."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.search.front import (
    front,
    hypervolume,
    hypervolume_curve,
    measured_objectives,
    objectives,
    rank_correlation,
    rank_order,
    ties,
)
from parapet.store.records import Record
from tests.fronts import identity
from tests.search.archive_records import failed, failed_line, line, record

NAMES = ("clean_error", "robust_error", "flops")
BOX = ((0.0, 0.0, 3.0), (1.0, 1.0, 7.0))
RECORDS = [
    record(0.90, 0.40, 1_000, id="cheap"),
    record(0.89, 0.40, 2_000, id="dominated", generation=1),
    record(0.95, 0.70, 100_000, id="strong", generation=1),
    record(0.99, 0.99, 10, id="broken", status="infeasible", reason="the audit failed", violation=0.2),
    record(0.99, 0.99, 1_000, id="quick", rung=0),
]
ONE = st.builds(lambda clean, robust, flops, generation, rung, feasible: record(
    clean / 4, robust / 4, 10 ** flops, generation=generation, rung=rung,
    status="feasible" if feasible else "infeasible"),
    st.integers(0, 4), st.integers(0, 4), st.integers(2, 8), st.integers(0, 3), st.integers(0, 2), st.booleans())
MANY = st.lists(ONE, max_size=12).map(lambda made: [replace(entry, id=f"{place:012x}") for place, entry in
                                                    enumerate(made)])


def _ids(records: list[Record]) -> list[str]:
    return [entry.id for entry in records]


def _dominates(one: list[float], other: list[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other))


def test_the_front_is_feasible_fully_trained_and_not_dominated() -> None:
    assert _ids(front(RECORDS, NAMES)) == ["cheap", "strong"]


def test_a_rung_has_a_front_of_its_own() -> None:
    assert _ids(front(RECORDS, NAMES, rung=0)) == ["quick"]
    assert _ids(front(RECORDS, NAMES, rung=2)) == ["cheap", "strong"]
    assert front(RECORDS, NAMES, rung=1) == []


def test_of_equal_candidates_one_stays() -> None:
    assert len(front([RECORDS[0], replace(RECORDS[0], id="twin")], NAMES)) == 1


def test_no_feasible_candidate_is_an_empty_front() -> None:
    assert front([RECORDS[3], failed()], NAMES) == []


@settings(max_examples=100, deadline=None)
@given(records=MANY)
def test_the_front_is_what_dominance_leaves(records: list[Record]) -> None:
    points = [(entry, objectives(entry, NAMES)) for entry in records if entry.fidelity.full
              and entry.is_feasible]
    left = [point for _, point in points if not any(_dominates(other, point) for _, other in points)]
    found = [tuple(objectives(entry, NAMES)) for entry in front(records, NAMES)]
    assert sorted(found) == sorted(set(map(tuple, left)))


def test_flops_and_latency_count_by_their_logarithm() -> None:
    assert objectives(RECORDS[2], NAMES) == pytest.approx([0.05, 0.3, 5.0])
    assert objectives(RECORDS[2], ("latency_ms",)) == pytest.approx([-1.0])
    assert objectives(RECORDS[3], NAMES) is None


def test_what_was_measured_can_be_ranked_whatever_its_status() -> None:
    assert measured_objectives(RECORDS[3], NAMES) == pytest.approx([0.01, 0.01, 1.0])
    assert measured_objectives(failed(), NAMES) is None
    assert measured_objectives(failed(flops=1_000), ("flops",)) == pytest.approx([3.0])
    assert measured_objectives(failed(flops=None), ("flops",)) is None


def test_a_latency_that_was_not_measured_is_missing_only_where_it_is_asked_for() -> None:
    untimed = record(latency_ms=None)
    assert objectives(untimed, NAMES) is not None
    assert objectives(untimed, (*NAMES, "latency_ms")) is None
    assert front([untimed], (*NAMES, "latency_ms")) == []


def test_hypervolume_of_one_and_two_points_by_hand() -> None:
    full = RECORDS[:4]
    assert hypervolume(full[:1], *BOX) == pytest.approx(0.9 * 0.4 * 1.0)
    both = 0.9 * 0.4 * 1.0 + 0.95 * 0.7 * 0.5 - 0.9 * 0.4 * 0.5
    assert hypervolume(full, *BOX) == pytest.approx(both)
    assert hypervolume([], *BOX) == hypervolume([failed()], *BOX) == 0.0


def test_what_is_better_than_the_ideal_counts_as_the_ideal() -> None:
    # Ten FLOPs are cheaper than the box's 1,000: it is filled up to its side and no further.
    assert hypervolume([record(0.9, 0.4, 10)], *BOX) == pytest.approx(0.9 * 0.4 * 1.0)
    assert hypervolume([record(1.0, 1.0, 10)], *BOX) == pytest.approx(1.0)


def test_a_cheap_training_costs_time_and_gives_no_hypervolume() -> None:
    first, second = hypervolume_curve(RECORDS, *BOX)
    assert first == {"generation": 0, "candidates": 3, "training_seconds": 6.0, "hypervolume": pytest.approx(0.36)}
    assert second == {"generation": 1, "candidates": 5, "training_seconds": 10.0,
                      "hypervolume": pytest.approx(hypervolume(RECORDS[:4], *BOX))}
    assert hypervolume_curve([failed()], *BOX) == [
        {"generation": 0, "candidates": 1, "training_seconds": 0.0, "hypervolume": 0.0}]
    assert hypervolume_curve([], *BOX) == []


@settings(max_examples=100, deadline=None)
@given(records=MANY)
def test_the_curve_is_the_hypervolume_of_all_so_far_and_never_falls(records: list[Record]) -> None:
    rows = hypervolume_curve(records, *BOX)
    assert [row["generation"] for row in rows] == sorted({entry.generation for entry in records})
    for row in rows:
        so_far = [entry for entry in records if entry.generation <= row["generation"]]
        assert row["candidates"] == len(so_far)
        assert row["hypervolume"] == pytest.approx(
            hypervolume([entry for entry in so_far if entry.fidelity.full], *BOX), abs=1e-12)
    assert all(a["hypervolume"] <= b["hypervolume"] + 1e-12 for a, b in zip(rows, rows[1:]))


def test_ties_are_inside_each_other_s_intervals_in_both_accuracies() -> None:
    member = line(0.90, 0.50, id="member")
    others = [member, line(0.91, 0.52, id="near"), line(0.91, 0.70, id="stronger"), line(0.99, 0.51, id="cleaner"),
              failed_line(id="failed"), line(0.95, 0.60, id="few", n=20)]
    assert ties(member, others) == ["near", "few"]
    assert all(ties(other, [member]) == (["member"] if other["id"] in ("near", "few") else [])
               for other in others[1:])


def test_promotion_is_by_rank_then_by_how_alone_a_candidate_is() -> None:
    row = {name: record(0.5 + place, 0.9 - place, 1_000, id=name) for name, place in
            {"left": 0.0, "crowded": 0.10, "crowded too": 0.13, "alone": 0.26, "right": 0.4}.items()}
    behind = [record(0.4, 0.4, 1_000, id="second rank"), record(0.3, 0.3, 1_000, id="third rank")]
    records = [*behind, *row.values()]
    names = ("clean_error", "robust_error")
    # The ends of the line first, then by the distance between a candidate's neighbours: 0.27, 0.16, 0.13.
    assert [records[place].id for place in rank_order(records, names)] == [
        "left", "right", "alone", "crowded too", "crowded", "second rank", "third rank"]


def test_the_infeasible_follow_by_how_little_they_violate() -> None:
    def infeasible(name: str, violation: float | None) -> Record:
        return record(0.99, 0.99, 10, id=name, status="infeasible", violation=violation)

    records = [failed(id="b unmeasured"), infeasible("far", 0.5), infeasible("near", 0.1), failed(id="a unmeasured"),
               infeasible("as near", 0.1), record(0.1, 0.1, id="feasible")]
    assert [records[place].id for place in rank_order(records, NAMES)] == [
        "feasible", "as near", "near", "far", "a unmeasured", "b unmeasured"]
    assert rank_order([], NAMES) == []


def test_a_rung_that_is_not_timed_is_ordered_by_what_is_known() -> None:
    untimed = [record(0.8, 0.4, id="worse", latency_ms=None), record(0.9, 0.5, id="better", latency_ms=None)]
    names = ("clean_error", "robust_error", "latency_ms")
    assert rank_order(untimed, names) == [1, 0]
    slow = record(0.1, 0.1, id="timed", violation=0.0)
    assert rank_order([*untimed, slow], names) == [2, 1, 0]  # behind the one that has every number, by id


@settings(max_examples=60, deadline=None)
@given(records=MANY, names=st.sampled_from([NAMES, NAMES[:2], (*NAMES, "latency_ms")]), chance=st.randoms())
def test_the_order_is_one_of_ranks_and_does_not_depend_on_the_order_given(
        records: list[Record], names: tuple[str, ...], chance: random.Random) -> None:
    order = rank_order(records, names)
    assert sorted(order) == list(range(len(records)))
    statuses = [records[place].status for place in order]
    assert statuses == sorted(statuses)
    points = [point for place in order if (point := objectives(records[place], names)) is not None]
    assert not any(_dominates(later, earlier) for place, earlier in enumerate(points) for later in points[place:])
    shuffled = chance.sample(records, len(records))
    assert _ids([shuffled[place] for place in rank_order(shuffled, names)]) == _ids([records[place] for place in order])


@pytest.mark.parametrize(("low", "high", "tau"), [
    ([1, 2, 3, 4], [10, 20, 30, 40], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 2, 3, 4], [1, 3, 2, 4], 2 / 3),
    ([1, 1, 2], [1, 2, 3], 2 / 6 ** 0.5), ([1, 2], [1, 2], None), ([], [], None), ([1, 1, 1], [1, 2, 3], None),
    ([1, 2, 3], [5, 5, 5], None),
])
def test_rank_correlation_is_tau_b(low: list[float], high: list[float], tau: float | None) -> None:
    assert rank_correlation(low, high) == {"tau": tau if tau is None else pytest.approx(tau), "n": len(low)}


def test_rank_correlation_needs_pairs() -> None:
    with pytest.raises(ValueError, match="3 numbers at one fidelity, 2 at the other"):
        rank_correlation([1, 2, 3], [1, 2])


def test_identity_forgets_latency_and_order() -> None:
    first, second = RECORDS[0], RECORDS[2]
    assert identity([first, second]) == identity([replace(second, latency_ms={"p50": 9.0}), first])
    assert identity([first]) != identity([replace(first, flops=1_001)])


def test_ten_thousand_candidates_cost_no_time_worth_telling() -> None:
    chance = np.random.default_rng(0)
    template = record()
    records = [replace(template, id=f"{place:012x}", generation=place // 10, flops=int(flops), validation=replace(
        template.validation, clean_accuracy=clean, robust_accuracy=robust))
        for place, (clean, robust, flops) in enumerate(chance.random((10_000, 3)) * (1.0, 1.0, 1e7))]
    for work, limit in ((lambda: front(records, NAMES), 0.2), (lambda: hypervolume(records, *BOX), 0.2),
                        (lambda: hypervolume_curve(records, *BOX), 1.0), (lambda: rank_order(records, NAMES), 1.0)):
        started = time.process_time()
        work()
        assert time.process_time() - started < limit
