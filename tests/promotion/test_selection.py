"""One member chosen from a front by its knee, by weights and by constraints; the reason, and what cannot be chosen."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.errors import InputError
from parapet.promotion.selection import select
from tests.search.archive_records import line as record

N = 10_000


def member(name: str, clean: float, robust: float, flops: int, latency: float | None = 0.1, n: int = N) -> dict:
    """An archive record of a candidate whose accuracies were measured on `n` images."""
    return record(clean, robust, flops, id=name, n=n, latency_ms=None if latency is None else {"p50": latency})


CHEAP = member("cheap", 0.90, 0.40, 1_000)
MIDDLE = member("middle", 0.94, 0.65, 3_000, latency=0.2)
STRONG = member("strong", 0.95, 0.70, 100_000, latency=0.4)
FRONT = [CHEAP, MIDDLE, STRONG]
# `c` lies on the line between the ends (in the front's own ranges), and `b` just below it.
STRAIGHT = [member(name, 0.9, robust, flops) for name, robust, flops in
            [("a", 0.1, 10**3), ("b", 0.32, 10**4), ("c", 0.5, 10**5), ("d", 0.9, 10**7)]]


def test_the_knee_is_where_every_way_out_loses_more_than_it_gains() -> None:
    chosen, reason = select(FRONT, "knee")
    assert chosen is MIDDLE
    # To cheap: loses 0.8 of the range of clean and 5/6 of robust accuracy, gains log10(3)/2 of the range of FLOPs.
    # To strong: loses log10(100/3)/2, gains 0.2 + 1/6.
    to_cheap, to_strong = (0.8 + 5 / 6) / (math.log10(3) / 2), math.log10(100 / 3) / 2 / (0.2 + 1 / 6)
    assert to_strong < to_cheap and f"{to_strong:.2f}" == "2.08"
    assert reason == ("middle is the knee of the front (clean_accuracy 0.94, robust_accuracy 0.65 and FLOPs 3,000): "
                      "in shares of the front's ranges, going to any other of its 3 members loses at least 2.08 times "
                      "what it gains.")


def test_the_knee_is_not_the_member_nearest_to_the_ideal_corner() -> None:
    """`c` is nearer to that corner than `b`, and yet going from `c` to `b` gains more than it loses."""
    losses = {name: (1 - (robust - 0.1) / 0.8, (math.log10(flops) - 3) / 4)
              for name, robust, flops in [("b", 0.32, 10**4), ("c", 0.5, 10**5)]}
    assert math.hypot(*losses["c"]) < math.hypot(*losses["b"])
    assert sum(losses["b"]) < sum(losses["c"])
    assert select(STRAIGHT, "knee")[0]["id"] == "b"


def test_a_front_of_one_or_two_has_a_knee_by_convention() -> None:
    assert select([CHEAP], "Knee") == (CHEAP, (
        "cheap is the knee of the front (clean_accuracy 0.9, robust_accuracy 0.4 and FLOPs 1,000): it is the only "
        "member."))
    assert select([CHEAP, STRONG], " knee ") == (STRONG, (
        "strong is the knee of the front (clean_accuracy 0.95, robust_accuracy 0.7 and FLOPs 100,000): of its 2 "
        "members it is the more robust one, or the cheaper one where they are equal."))
    equally_robust = member("clean", 0.99, 0.40, 2_000)
    assert select([equally_robust, CHEAP], "knee")[0] is CHEAP


def test_members_without_a_difference_are_all_knees_and_the_first_by_name_is_taken() -> None:
    chosen, reason = select([member(name, 0.9, 0.5, 100) for name in "cab"], "knee")
    assert chosen["id"] == "a" and "none of the other 2 members is better than it in anything; a cannot" in reason


def test_weights_name_the_score_and_the_numbers() -> None:
    chosen, reason = select(FRONT, "weights: robust_accuracy 3, clean_accuracy 1, flops 0.5")
    assert chosen is STRONG
    # It is behind in FLOPs alone, by the whole range: 1 - 0.5 / 4.5.
    assert reason == ("strong scores 0.889 of 1, the best of 3 members of the front by the weights robust_accuracy 3, "
                      "clean_accuracy 1, flops 0.5 (robust_accuracy 0.7, clean_accuracy 0.95 and FLOPs 100,000).")


@pytest.mark.parametrize(("wish", "name"), [
    ("weights: flops 1", "cheap"), ("weights: params 2, clean_accuracy 0", "cheap"),
    ("weights: robust_accuracy 1", "strong"), ("weights clean_accuracy=1, robust_accuracy=1, flops=1", "middle"),
    ("Weights: Latency_MS 1, Robust Accuracy 1.5", "middle"), ("weights: robust_accuracy 1e308, flops 1e308", "middle"),
])
def test_weights_turn_the_choice(wish: str, name: str) -> None:
    assert select(FRONT, wish)[0]["id"] == name


def test_weights_leave_out_what_has_no_latency() -> None:
    unmeasured = [member("new", 0.99, 0.9, 2_000, latency=None), *FRONT]
    chosen, reason = select(unmeasured, "weights: latency_ms 1")
    assert chosen is CHEAP
    assert reason == ("cheap scores 1.000 of 1, the best of 3 members of the front by the weights latency_ms 1 "
                      "(latency_ms 0.1), with 1 left out because not all of these were measured.")
    assert select(unmeasured, "weights: robust_accuracy 1, latency_ms 0")[0]["id"] == "new"
    with pytest.raises(InputError, match="^no member of the front has a measured latency_ms, so weights cannot "
                                         "compare"):
        select(unmeasured[:1], "weights: latency_ms 1")


def test_constraints_choose_the_cheapest_that_meets_them() -> None:
    assert select(FRONT, "robust_accuracy >= 0.3, latency_ms <= 0.2") == (CHEAP, (
        "cheap has the fewest FLOPs (1,000) of the 2 out of 3 members of the front that meet robust_accuracy >= 0.3, "
        "latency_ms <= 0.2 (robust_accuracy 0.4 and latency_ms 0.1)."))
    assert select(FRONT, "robust_accuracy>=70%") == (STRONG, (
        "strong is the only one of 3 members of the front that meets robust_accuracy>=70% (robust_accuracy 0.7)."))


@pytest.mark.parametrize(("wish", "name"), [
    ("robust_accuracy >= 0.3, latency_ms <= 0.2, then most robust_accuracy", "middle"),
    ("robust_accuracy >= 0.3 then highest Clean_Accuracy", "strong"),
    ("robust_accuracy >= 0.3, THEN Least latency_ms", "cheap"),
    ("flops > 1000, then smallest params", "middle"), ("flops >= 1000, then largest flops", "strong"),
    ("flops < 3e3", "cheap"), ("Robust_Accuracy > 40 %", "middle"), ("robust accuracy > 0.4, flops < 100000", "middle"),
])
def test_orders_and_signs(wish: str, name: str) -> None:
    assert select(FRONT, wish)[0]["id"] == name


def test_orders_settle_one_after_the_other() -> None:
    slow, quick = member("slow", 0.94, 0.65, 2_000, latency=0.9), member("quick", 0.94, 0.65, 2_500, latency=0.1)
    among = [CHEAP, slow, quick]
    chosen, reason = select(among, "flops <= 1e6, then most robust_accuracy, then least latency_ms")
    assert chosen is quick
    assert reason == ("quick has the highest robust_accuracy (0.65), then the lowest latency_ms (0.1) of the 3 out of "
                      "3 members of the front that meet flops <= 1e6 (FLOPs 2,500); quick and slow cannot be told "
                      "apart on 10,000 images.")
    assert select(among, "flops <= 1e6 then most robust_accuracy")[0] is slow


def test_a_percentage_is_the_share_that_it_says() -> None:
    exact = member("exact", 0.9, 883 / 1000, 10)
    assert select([exact], "robust_accuracy >= 88.3%")[0] is exact
    with pytest.raises(InputError):
        select([exact], "robust_accuracy > 88.3%")


def test_a_latency_that_was_not_measured_meets_nothing_and_is_last() -> None:
    new = member("new", 0.96, 0.9, 500, latency=None)
    assert select([new, *FRONT], "latency_ms <= 9")[0] is CHEAP
    assert select([new, *FRONT], "robust_accuracy >= 0.6, then least latency_ms")[0] is MIDDLE
    with pytest.raises(InputError) as caught:
        select([new], "robust_accuracy >= 0.95, latency_ms <= 0.2")
    assert str(caught.value) == (
        "no member of the front meets robust_accuracy >= 0.95, latency_ms <= 0.2; the nearest is new, which misses "
        "robust_accuracy >= 0.95 (it has 0.9) and latency_ms <= 0.2 (not measured); loosen a bound, or search longer.")
    with pytest.raises(InputError) as caught:
        select([new], "robust_accuracy >= 0.6, then least latency_ms")
    assert str(caught.value) == ("no member of the front that meets robust_accuracy >= 0.6 has a measured latency_ms; "
                                 "leave 'then lowest latency_ms' out.")


def test_ties_are_named_with_the_images_that_could_not_tell() -> None:
    few = [member(name, 0.9, robust, flops, n=n) for name, robust, flops, n in
           [("a", 0.50, 1, 100), ("b", 0.55, 2, 100), ("c", 0.56, 3, 200), ("d", 0.57, 4, 100), ("e", 0.58, 5, 100)]]
    assert select(few[:2], "flops <= 1")[1].endswith("; a and b cannot be told apart on 100 images.")
    assert select(few[:3], "flops <= 1")[1].endswith("; a cannot be told apart from b and c on 100 to 200 images.")
    assert select(few, "flops <= 1")[1].endswith("; a cannot be told apart from b, c, d and 1 more on 100 to 200 "
                                                 "images.")


def test_one_interval_alone_is_no_tie() -> None:
    assert "told apart" not in select([member("a", 0.9, 0.5, 1), member("b", 0.9, 0.8, 2)], "flops <= 1")[1]


@pytest.mark.parametrize(("wish", "sentence"), [
    ("robust_accuracy >= 0.9", "no member of the front meets robust_accuracy >= 0.9; the nearest is strong, which "
                               "misses robust_accuracy >= 0.9 (it has 0.7); loosen a bound, or search longer."),
    # 5/6 of the range of robust accuracy is more to miss than half of that of log latency.
    ("robust_accuracy >= 0.65, latency_ms <= 0.1",
     "no member of the front meets robust_accuracy >= 0.65, latency_ms <= 0.1; the nearest is middle, which misses "
     "latency_ms <= 0.1 (it has 0.2); loosen a bound, or search longer."),
    ("flops < 1000", "no member of the front meets flops < 1000; the nearest is cheap, which misses flops < 1000 (it "
                     "has 1,000); loosen a bound, or search longer."),
])
def test_of_a_wish_that_is_not_met_the_nearest_member_is_told(wish: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        select(FRONT, wish)
    assert str(caught.value) == sentence


def test_a_wish_that_cannot_be_read_is_told() -> None:
    with pytest.raises(InputError, match="^the constraint 'robustness >= 0.9' cannot be read; write knee, or weights"):
        select(FRONT, "robustness >= 0.9")


def test_an_empty_front_is_told() -> None:
    with pytest.raises(InputError, match="^the front has no members to choose from; search longer, or with looser"):
        select([], "knee")


FRONTS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(1, 10**9),
                            st.none() | st.integers(1, 1000)), min_size=1, max_size=12).map(
    lambda rows: [member(f"m{place:02d}", clean / 100, robust / 100, flops, None if latency is None else latency / 100,
                         n=100) for place, (clean, robust, flops, latency) in enumerate(rows)])


@settings(max_examples=200, deadline=None)
@given(FRONTS, st.integers(0, 100), st.integers(1, 1000))
def test_the_chosen_meets_the_constraints_and_none_that_does_is_cheaper(front: list, robust: int, latency: int) -> None:
    def meets(candidate: dict) -> bool:
        return (candidate["validation"]["robust_accuracy"] >= robust / 100 and candidate["latency_ms"] is not None
                and candidate["latency_ms"]["p50"] < latency / 100)

    meeting = [candidate for candidate in front if meets(candidate)]
    try:
        chosen, _ = select(front, f"robust_accuracy >= {robust}%, latency_ms < {latency / 100}")
    except InputError:
        assert not meeting
        return
    assert meets(chosen) and chosen["flops"] == min(candidate["flops"] for candidate in meeting)


@settings(max_examples=200, deadline=None)
@given(FRONTS, st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any), st.integers(1, 10**6),
       st.integers(1, 99))
def test_the_scale_of_the_weights_changes_nothing(front: list, weights: list[int], up: int, down: int) -> None:
    def choose(factor: Fraction) -> str:
        named = ", ".join(f"{name} {float(weight * factor)}" for name, weight in zip(
            ("clean_accuracy", "robust_accuracy", "flops", "params"), weights))
        return select(front, f"weights: {named}")[0]["id"]

    assert choose(Fraction(up, down)) == choose(Fraction(1))


@settings(max_examples=200, deadline=None)
@given(FRONTS.filter(lambda front: len(front) > 2))
def test_no_way_out_of_the_knee_gains_more_than_it_loses(front: list) -> None:
    values = np.array([[-candidate["validation"]["clean_accuracy"], -candidate["validation"]["robust_accuracy"],
                        math.log10(candidate["flops"])] for candidate in front])
    scaled = values / np.where(np.ptp(values, axis=0) > 0, np.ptp(values, axis=0), 1.0)
    chosen = [candidate["id"] for candidate in front].index(select(front, "knee")[0]["id"])
    moves = scaled - scaled[chosen]
    assert (np.maximum(moves, 0).sum(axis=1) >= np.maximum(-moves, 0).sum(axis=1) - 1e-8).all()


@settings(max_examples=100, deadline=None)
@given(FRONTS, st.sampled_from(["knee", "weights: robust_accuracy 2, flops 1",
                                "flops >= 1, then most robust_accuracy"]))
def test_the_order_of_the_front_changes_nothing(front: list, wish: str) -> None:
    assert select(front[::-1], wish)[0] == select(front, wish)[0]
