"""The figures hold the numbers of the front, and nothing that a browser cannot read."""

from __future__ import annotations

import pytest

from parapet.report import plots, wording
from parapet.report.members import best, ties


def trace(figure, meta):
    return next(item for item in figure["data"] if item.get("meta") == meta)


@pytest.mark.parametrize("x", list(plots.AXES))
def test_pareto_holds_test_numbers_and_the_archive_its_validation_numbers(made, x) -> None:
    figure = plots.pareto(made.front, made.archive, x)
    by_id = {candidate["id"]: candidate for candidate in made.front["candidates"]}
    points = trace(figure, "front")
    for name, cost, robust, clean, up, down in zip(points["customdata"], points["x"], points["y"],
                                                   points["marker"]["color"], points["error_y"]["array"],
                                                   points["error_y"]["arrayminus"]):
        test = by_id[name]["test"]
        assert cost == (by_id[name]["flops"] if x == "flops" else by_id[name]["latency_ms"]["p50"])
        assert (robust, clean) == pytest.approx((test["robust_accuracy"], test["clean_accuracy"]), abs=1e-6)
        assert [robust - down, robust + up] == pytest.approx(test["robust_interval"], abs=1e-5)
    records = {record["id"]: record for record in made.archive}
    faint = trace(figure, "archive")
    assert len(faint["x"]) == 38
    for name, robust in zip(faint["customdata"], faint["y"]):
        assert robust == pytest.approx(records[name]["validation"]["robust_accuracy"], abs=1e-6) and name not in by_id


def test_attack_bars_end_with_every_attack_and_stand_beside_the_undefended(made) -> None:
    candidate = made.front["candidates"][2]
    own, undefended = plots.attack_bars(candidate, made.front, made.evaluations)["data"]
    test = candidate["test"]
    assert [own["x"][0], own["x"][-1]] == pytest.approx([test["clean_accuracy"], test["robust_accuracy"]], abs=1e-6)
    attacks = candidate["test"]["attacks"]
    expected = [(f"{name} alone", shares["alone"]) for name, shares in attacks.items() if shares["left"] is None]
    expected += [(f"all up to {name}", shares["left"]) for name, shares in attacks.items()
                 if shares["alone"] is None]
    assert own["y"][1:-1] == [name for name, _ in expected] and len(expected) == 7
    assert own["x"][1:-1] == pytest.approx([share for _, share in expected], abs=1e-6)
    assert undefended["x"][-1] == pytest.approx(made.front["undefended"]["test"]["robust_accuracy"], abs=1e-6)
    assert len(plots.attack_bars(made.front["undefended"], made.front, {})["data"]) == 1


def test_eps_curve_is_in_order_of_eps_or_absent(made) -> None:
    candidate = made.front["candidates"][0]
    curves = made.evaluations[candidate["id"]]["curves"]
    curves["eps"].reverse()
    curves["accuracy"].reverse()
    figure = plots.eps_curve(candidate, made.front, made.evaluations)
    assert figure["data"][1]["x"] == sorted(curves["eps"])
    assert plots.eps_curve(candidate, made.front, {}) is None


def test_the_loss_is_drawn_over_the_steps_or_absent(made) -> None:
    candidate = made.front["candidates"][0]
    curves = made.evaluations[candidate["id"]]["curves"]
    figure = plots.steps_curve(candidate, made.front, made.evaluations)
    assert [line["x"] for line in figure["data"]] == [curves["steps"]] * 2
    assert figure["data"][1]["y"] == curves["loss"]
    assert len(plots.steps_curve(made.front["undefended"], made.front, made.evaluations)["data"]) == 1
    assert plots.steps_curve(candidate, made.front, {}) is None


@pytest.mark.parametrize("against", list(plots.VOLUME_AXES))
def test_hypervolume_against(made, against) -> None:
    points = made.front["search"]["hypervolume"]
    line = plots.hypervolume(made.front, against)["data"][0]
    assert line["x"] == [point[against] for point in points]
    assert line["y"] == [point["hypervolume"] for point in points]


def test_not_every_generation_of_many_has_a_tick(made) -> None:
    """A thousand ticks took a browser a quarter of a minute."""
    few = plots.hypervolume(made.front)["layout"]["xaxis"]
    points = made.front["search"]["hypervolume"]
    long = {**made.front, "search": {**made.front["search"],
                                     "hypervolume": [*points[:-1], {**points[-1], "generation": 1001}]}}
    assert few["dtick"] == 1 and "dtick" not in plots.hypervolume(long)["layout"]["xaxis"]


def test_ties_are_mutual(made) -> None:
    top = best(made.front)
    for other in ties(made.front, top):
        assert top["id"] in {back["id"] for back in ties(made.front, other)}


@pytest.mark.parametrize("value, words", [(15800, "15.8 k"), (1_234_567, "1.23 M"), (999_950, "1 M"), (7, "7"),
                                          (0, "0")])
def test_counts(value, words) -> None:
    assert wording.count(value) == words


@pytest.mark.parametrize("seconds, words", [(7.31, "7.3 s"), (125, "2 min 5 s"), (3725, "1 h 2 min"), (812, "14 min")])
def test_durations(seconds, words) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize("norm, eps, words", [
    ("linf", 8 / 255, "L-inf, eps = 8/255"), ("linf", 0.2, "L-inf, eps = 0.2"), ("l2", 0.5, "L2, eps = 0.5"),
    ("linf", 0.3, "L-inf, eps = 0.3")])
def test_threats(norm, eps, words) -> None:
    assert wording.threat({"norm": norm, "eps": eps}) == words


def test_every_figure_is_one_that_plotly_s_own_classes_accept(made) -> None:
    """They check every name and value; the page does without them, because they take a tenth of a second a figure."""
    import plotly.graph_objects as go

    candidate, front, evaluations = made.front["candidates"][0], made.front, made.evaluations
    figures = [plots.pareto(front, made.archive, x) for x in plots.AXES]
    figures += [plots.hypervolume(front, against) for against in plots.VOLUME_AXES]
    figures += [make(candidate, front, evaluations) for make in (plots.attack_bars, plots.eps_curve, plots.steps_curve)]
    for figure in figures:
        go.Figure(figure)
