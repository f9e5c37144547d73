"""How long a search will take: the model and the simulation by known answers, and a real one on the digits."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.config import Params, parse
from parapet.genome import Genome
from parapet.steps import forecast, simulation, step_times
from parapet.steps.simulation import Cost, simulate
from tests.steps.tiny import TINY

INFO = {"images": {"train": 1000, "validation": 300, "test": 300}, "image_shape": [1, 8, 8]}
SAME = Cost(rungs=(10.0,), whole=10.0, look=3.0, export=2.0)


def _params(**search: Any) -> Params:
    return parse(Params, {"training": {"epochs": 8}, "search": {"population": 4, "generations": 2, **search}})


def test_without_rungs_every_round_lasts_as_long_as_its_longest_worker() -> None:
    # The first round has the undefended network beside the four candidates; five tasks on two workers take three turns.
    course = simulate(_params(), [SAME], 2, start=4.0)
    assert course == simulation.Course(seconds=4.0 + 15 * 3 + 15 * 2, device_seconds=15.0 * 9, candidates=8)
    assert course.per_hour == pytest.approx(3600 * 8 / 79)


def test_rungs_promote_a_share_and_the_front_is_trained_again_with_its_seeds() -> None:
    cost = Cost(rungs=(1.0, 4.0), whole=5.0, look=0.0, export=0.0)
    search = {"population": 6, "generations": 1, "rungs": [{"epochs": 2}], "reduction": 3}
    # Undefended 5 and six of 1 second; two promoted; half of the population from scratch, then with two more seeds.
    assert simulate(_params(**search), [cost], 1, 0.0).seconds == pytest.approx(5 + 6 + 2 * 4 + 3 * 5)
    assert simulate(_params(**search, final_seeds=3), [cost], 1, 0.0).seconds == pytest.approx(19 + 9 * 5)
    # Promoted ones start over, and then nothing is left to be trained at the end.
    anew = simulate(_params(**search, full_from_scratch=True), [cost], 1, 0.0)
    assert anew.seconds == pytest.approx(5 + 6 + 2 * 5)


def test_of_a_budget_of_hours_the_candidates_are_told() -> None:
    course = simulate(_params(budget="1 hour"), [SAME], 1, 0.0)
    assert course.candidates == pytest.approx(3600 / 15, rel=0.03)
    assert course.seconds == pytest.approx(3600, rel=0.03)
    half = simulate(_params(budget="1 hour"), [SAME.times(2)], 1, 0.0)
    assert half.candidates == pytest.approx(course.candidates / 2, rel=0.05)
    shared = simulate(_params(budget="1 gpu-hour"), [SAME], 4, 0.0)
    assert shared.device_seconds == pytest.approx(3600, rel=0.03) and shared.seconds < 1300


def test_a_budget_of_candidates_is_kept_to_the_last_one() -> None:
    assert simulate(_params(budget="6 candidates"), [SAME], 2, 0.0).candidates == 6
    long = simulate(_params(budget="100000 candidates"), [SAME], 4, 0.0)
    assert long.candidates == pytest.approx(100_000, rel=0.01)
    assert long.seconds == pytest.approx(100_000 / 4 * 15, rel=0.02)


@given(st.integers(1, 16), st.floats(0.5, 4))
def test_more_workers_are_never_slower_and_a_slower_machine_takes_longer(workers: int, factor: float) -> None:
    costs = [SAME, SAME.times(2), SAME.times(0.3)]
    one, more = (simulate(_params(), costs, count, 0.0) for count in (workers, workers + 1))
    assert more.seconds <= one.seconds + 1e-9
    slower = simulate(_params(), [cost.times(factor) for cost in costs], workers, 0.0)
    assert slower.seconds == pytest.approx(factor * one.seconds)


def test_training_is_counted_in_passes() -> None:
    genome = Genome(loss="pgd", steps=2)  # 2 x 2 for the attack, 3 for the descent
    assert simulation.passes(genome, _params()) == 7
    params = _params(rungs=[{"epochs": 2, "data_share": 0.5, "crafting": "n_fgsm"}])
    cost = simulation.cost(genome, params, INFO, a_pass=1.0, batch=64, look=0.0, export=0.0)
    # Half of the images and one attack step; validation of 300 images, 1 + 5 steps; 128 watched, 6 steps, each epoch.
    assert cost.rungs[0] == pytest.approx(2 * 7 * 5 + (300 * 6 + 2 * 128 * 6) / 64)
    assert cost.whole == pytest.approx(8 * 15 * 7 + 2 * (300 * 6 + 128 * 6) / 64)
    # What is left are six epochs, looked at twice as well.
    assert cost.rungs[1] == pytest.approx(cost.whole - 2 * 15 * 7)


def test_distillation_pays_for_its_teacher() -> None:
    own, taught = (simulation.cost(Genome(loss=loss), _params(), INFO, a_pass=1.0, batch=64, look=0.0, export=0.0).whole
                   for loss in ("softened", "distillation"))
    assert taught > 2 * own


@pytest.mark.parametrize(("rows", "expected"), [
    ([(1.0, 3.0), (3.0, 7.0)], (1.0, 2.0)), ([(2.0, 4.0)], (0.0, 2.0)), ([], (0.0, 0.0)),
    ([(1.0, 5.0), (3.0, 1.0)], (5.0, 0.0)), ([(1.0, 1.0), (3.0, 7.0)], (0.0, 3.0))])
def test_a_line_has_neither_negative_slope_nor_start(rows: list[tuple[float, float]],
                                                     expected: tuple[float, float]) -> None:
    assert step_times.line(rows) == expected


def test_what_layers_cost_is_told_apart() -> None:
    times = {"none": 1.0, "mean": 1.5, "gaussian": 3.0}
    genomes = [Genome(width=width, denoiser=denoiser, activation=activation).canonical()
               for width in range(1, 20) for denoiser in times for activation in ("relu", "silu")]
    factors = step_times.layer_factors([(genome, 2 * times[genome.denoiser]) for genome in genomes])
    for genome in genomes:
        assert step_times.layered(genome, factors) == pytest.approx(2 * times[genome.denoiser], rel=0.05)
    assert step_times.layer_factors([]) == {} and step_times.layered(genomes[0], {}) == 1.0


@pytest.mark.parametrize(("seconds", "text"), [
    (4.24, "4.2 s"), (51.3, "51 s"), (100, "2 min"), (3000, "50 min"), (9000, "2.5 h"), (86_400, "24 h"),
    (400_000, "5 days")])
def test_a_duration_is_as_exact_as_an_estimate_deserves(seconds: float, text: str) -> None:
    assert forecast.duration(seconds) == text


def test_numbers_are_told_with_two_digits() -> None:
    assert [forecast.rounded(value) for value in (0.4, 7, 123, 123_456)] == ["0", "7", "120", "120,000"]


def test_a_real_forecast_writes_nothing_and_fits_into_a_sentence(digits_folder: Path) -> None:
    params = parse(Params, TINY)
    before = sorted(path.name for path in digits_folder.iterdir())
    found = forecast.run(params, digits_folder, devices=["cpu"])
    assert sorted(path.name for path in digits_folder.iterdir()) == before
    assert {family.name for family in found.families} == {"plain", "residual", "separable"}
    assert found.low.seconds < found.middle.seconds < found.high.seconds
    assert re.fullmatch(
        r"2 generations of 2 on 1 worker \(cpu\): about \S+ \w+, between \S+ \w+ and \S+ \w+; about [\d,]+ candidates "
        r"an hour \([\d,]+ to [\d,]+\)\. Timed in \S+ \w+; nothing was trained or written\.", forecast.sentence(found))
    assert forecast.table(found).row_count == 3
    hours = dataclasses.replace(found, budget="2 hours", counted=False)
    assert re.search(r"2 hours on 1 worker \(cpu\): about [\d,]+ candidates in", forecast.sentence(hours))
