"""How long a search will take: what is counted by known answers, and a real one on the digits."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.config import Params, parse
from parapet.errors import WorkError
from parapet.forecast import forecast, timed_candidate
from parapet.forecast.forecast import Timed, climbing, idle, scratch, search_cost, spread
from parapet.genome import Genome
from tests.steps.tiny import TINY

INFO = {"images": {"train": 1000, "validation": 300, "test": 300}, "image_shape": [1, 8, 8]}
# 8 epochs of a second, 3 seconds of attacks, 2 of export: 13 seconds in all.
ONE = Timed(Genome(), epoch=1.0, attacks=3.0, export=2.0)


def _params(**search: Any) -> Params:
    return parse(Params, {"training": {"epochs": 8}, "search": {"population": 4, "generations": 2, **search}})


def test_a_candidate_is_trained_attacked_and_exported() -> None:
    assert scratch(_params(), ONE) == climbing(_params(), ONE) == 13.0


def test_of_each_rung_a_share_goes_on() -> None:
    params = _params(rungs=[{"epochs": 2, "data_share": 0.5}], reduction=3)
    # 2 epochs on half of the images and an evaluation; a third go on for 6 epochs, an evaluation and an export.
    assert climbing(params, ONE) == pytest.approx(2 * 0.5 + 3 + (6 + 3 + 2) / 3)
    anew = _params(rungs=[{"epochs": 2, "data_share": 0.5}], reduction=3, full_from_scratch=True)
    assert climbing(anew, ONE) == pytest.approx(2 * 0.5 + 3 + (8 + 3 + 2) / 3)
    timed = _params(rungs=[{"epochs": 2}], objectives=["clean_error", "robust_error", "latency_ms"])
    assert climbing(timed, ONE) == pytest.approx(2 + 3 + 2 + (6 + 3 + 2) / 3)


def test_without_rungs_the_search_is_its_candidates_and_the_undefended_network() -> None:
    found = search_cost(_params(), [ONE], 1, 1.0, wait=4.0)
    assert found == forecast.Cost(seconds=4.0 + 9 * 13.0, candidates=8)
    assert found.per_hour == pytest.approx(3600 * 8 / 121)
    # Four equal candidates on two workers leave nobody idle.
    assert search_cost(_params(), [ONE], 2, 1.0, wait=0.0).seconds == pytest.approx(9 * 13.0 / 2)


def test_the_end_trains_the_front_again_and_evaluates_it() -> None:
    plain, seeds = (search_cost(_params(**search), [ONE], 1, 1.0, 0.0).seconds for search in ({}, {"final_seeds": 3}))
    assert seeds - plain == pytest.approx(2 * 2 * 13.0)  # two on the front, two more seeds
    rungs = {"rungs": [{"epochs": 2}]}
    again, anew = (search_cost(_params(**rungs, **search), [ONE], 1, 1.0, 0.0).seconds
                   for search in ({}, {"full_from_scratch": True}))
    # With rungs the front is trained from scratch, unless the last step up was that already; then two epochs more each.
    assert again - anew == pytest.approx(2 * 13.0 - 8 * 2 / 3)
    twice = search_cost(_params(evaluations=2), [ONE], 1, 1.0, 0.0).seconds
    assert twice - plain == pytest.approx(3.0 * (2 + 8 / 3))


def test_the_last_candidate_of_a_generation_is_waited_for() -> None:
    assert idle(_params(population=3), [ONE], 2) == pytest.approx(2 / 1.5)
    assert idle(_params(), [ONE], 1) == pytest.approx(1.0)
    uneven = [ONE, dataclasses.replace(ONE, epoch=10.0)]
    assert idle(_params(), uneven, 4) > 1.3


def test_of_a_budget_of_hours_the_candidates_are_told() -> None:
    found = search_cost(_params(budget="1 hour"), [ONE], 1, 1.0, 0.0)
    assert found.candidates == pytest.approx(3600 / 13 - 1) and found.seconds == pytest.approx(3600)
    assert search_cost(_params(budget="1 hour"), [ONE], 1, 2.0, 0.0).candidates == pytest.approx(3600 / 26 - 1)
    shared = search_cost(_params(budget="1 gpu-hour"), [ONE], 4, 1.0, 0.0)
    assert shared.candidates == pytest.approx(found.candidates) and shared.seconds == pytest.approx(900)
    assert search_cost(_params(budget="60 minutes"), [ONE], 1, 1.0, 0.0) == found
    assert search_cost(_params(budget="6 candidates"), [ONE], 1, 1.0, 0.0).candidates == 6


@given(st.integers(1, 16), st.floats(0.5, 4))
def test_more_workers_are_hardly_slower_and_a_slower_machine_takes_longer(workers: int, factor: float) -> None:
    timed = [ONE, dataclasses.replace(ONE, epoch=2.0), dataclasses.replace(ONE, epoch=0.3)]
    one, more = (search_cost(_params(), timed, count, 1.0, 0.0).seconds for count in (workers, workers + 1))
    assert more <= one * 1.001
    assert search_cost(_params(), timed, workers, factor, 0.0).seconds == pytest.approx(factor * one)


def test_the_range_widens_with_what_candidates_differ_in_and_is_never_narrow() -> None:
    low, middle, high = spread(_params(), [ONE] * 6)
    assert (low, middle, high) == (pytest.approx(0.8), 1.0, pytest.approx(1.25))
    low, _, high = spread(_params(), [ONE] * 5 + [dataclasses.replace(ONE, epoch=20.0)])
    assert low < 0.75 and high > 1.4


def test_the_timed_training_is_a_short_one_with_its_share_of_everything() -> None:
    params = parse(Params, {"training": {"epochs": 30, "batch_size": 64, "validate_every": 5,
                                         "validation_images": 200}})
    short, share = timed_candidate._shortened(params, {"images": {"train": 50_000, "validation": 10_000}})
    assert share == pytest.approx(24 * 64 / 50_000) and short.training.validation_images == round(share * 200)
    assert (short.training.epochs, short.training.validate_every) == (4, 4)
    assert short.attack_evaluation.images == 128
    whole, share = timed_candidate._shortened(params, {"images": {"train": 1000, "validation": 300}})
    assert share == 1.0 and (whole.training.epochs, whole.training.validate_every) == (5, 5)


@pytest.mark.parametrize(("seconds", "text"), [
    (4.24, "4.2 s"), (51.3, "51 s"), (100, "2 min"), (3000, "50 min"), (9000, "2.5 h"), (86_400, "24 h"),
    (400_000, "5 days")])
def test_a_duration_is_as_exact_as_an_estimate_deserves(seconds: float, text: str) -> None:
    assert forecast.duration(seconds) == text


def test_numbers_are_told_with_two_digits() -> None:
    assert [forecast.rounded(value) for value in (0.4, 7, 123, 123_456)] == ["0", "7", "120", "120,000"]


def test_a_real_forecast_writes_nothing_and_fits_into_a_sentence(
        digits_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(forecast, "_LEAST", 2)
    before = sorted(path.name for path in digits_folder.iterdir())
    found = forecast.run(parse(Params, TINY), digits_folder, devices=["cpu"])
    assert sorted(path.name for path in digits_folder.iterdir()) == before
    assert capsys.readouterr().out.startswith("timing  0/2 candidates of the space  elapsed 0:00  starting\n")
    assert len(found.timed) == 2 and all(min(one.epoch, one.attacks, one.export) > 0 for one in found.timed)
    assert found.low.seconds < found.middle.seconds < found.high.seconds
    assert re.fullmatch(
        r"2 generations of 2 on 1 worker \(cpu\): about \S+ \w+, between \S+ \w+ and \S+ \w+; about [\d,]+ candidates "
        r"an hour \([\d,]+ to [\d,]+\)\. Timed 2 candidates in \S+ \w+; nothing was kept\.", forecast.sentence(found))
    assert forecast.table(found).row_count == 2
    hours = dataclasses.replace(found, budget="2 hours", counted=False)
    assert re.search(r"2 hours on 1 worker \(cpu\): about [\d,]+ candidates in", forecast.sentence(hours))


def test_candidates_that_cannot_be_trained_are_told(digits_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "_LEAST", 1)
    hopeless = parse(Params, {**TINY, "search": {**TINY["search"], "space": {"backbone": ["small_cnn"]}}})
    with pytest.raises(WorkError, match="nothing could be timed: images of 8x8 pixels are too small for small_cnn"):
        forecast.run(hopeless, digits_folder, devices=["cpu"])
