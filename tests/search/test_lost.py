"""Candidates that are lost: what is said of one, what one costs the others, and a search that loses too many stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parapet.config import Params, parse
from parapet.disk.files import read_json
from parapet.errors import WorkError
from parapet.genome import Genome
from parapet.search import lost
from parapet.search.network_space import SearchSpace
from parapet.search.session import new_schedule
from parapet.steps import candidates, measure, search
from parapet.store import archive, results, search_folder
from parapet.tracking import NullTracker
from tests.steps.tiny import TINY

ALONE = "in 2 attempts, the last with the machine to itself"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says what becomes of the candidates with an activation."""
    monkeypatch.setenv("PLANTED", str(tmp_path / "plan.json"))
    monkeypatch.setattr(measure, "_RUN", "tests.steps.planted:run")

    def say(**values: Any) -> None:
        (tmp_path / "plan.json").write_text(json.dumps(values))
    return say


def _params(population: int, activations: list[str], **changes: Any) -> Params:
    space = {**TINY["search"]["space"], "width": [4, 5, 6], "activation": activations}
    return parse(Params, {**TINY, "training": {**TINY["training"], "epochs": 1, "validate_every": 1},
                          "search": {**TINY["search"], "generations": 1, "population": population, "attempts": 2,
                                     "space": space, **changes}})


def _search(params: Params, dataset: Path, folder: Path) -> list[dict[str, Any]]:
    search.run(params, dataset, folder / "out", folder / "cache", devices=["cpu", "cpu"], tracker=NullTracker())
    return archive.read(folder / "out/archive.jsonl")


def test_want_of_memory_and_a_death_cost_nobody_else_anything(digits_folder: Path, tmp_path: Path, plan: Any,
                                                              capsys: pytest.CaptureFixture) -> None:
    """A worker that met want of memory once made every later candidate infeasible."""
    plan(silu=["memory", 1], softplus=["SEGV", 1])
    found = _search(_params(4, ["relu", "silu", "softplus"]), digits_folder, tmp_path)
    assert len(found) == 4 and {record["status"] for record in found} == {"feasible"}
    assert len({record["genome"]["activation"] for record in found}) >= 2
    assert "attempts" not in capsys.readouterr().out


def test_one_that_dies_twice_is_infeasible_with_its_reason_and_the_rest_goes_on(
        digits_folder: Path, tmp_path: Path, plan: Any, capsys: pytest.CaptureFixture) -> None:
    params = _params(4, ["relu", "silu", "softplus"])
    schedule = new_schedule(params, read_json(digits_folder / "dataset.json"))
    drawn = [request.genome.activation for request in schedule.ask([], lambda: False)]
    alone = next(name for name in drawn if drawn.count(name) == 1)
    plan(**{alone: "SEGV"})
    found = _search(params, digits_folder, tmp_path)
    [dead] = [record for record in found if record["status"] != "feasible"]
    genome, reason = Genome.from_dict(dead["genome"]), dead["reason"]
    assert reason.startswith(f"measuring of candidate {dead['id']} ({genome}) died by SIGSEGV, {ALONE}; the last "
                             "lines of its standard error: Fatal Python error: Segmentation fault | File ")
    assert reason.endswith("; to leave it out, take one of its values out of search.space: "
                           f"backbone {genome.backbone} or width {genome.width} or activation {alone}")
    assert reason in capsys.readouterr().out and len(found) == 4
    folder = measure.folder_of(tmp_path / "cache", dead["training_key"])
    assert "most recent call first" in (folder / "failure.txt").read_text()


@pytest.mark.parametrize(("how", "kind", "first", "cure"), [
    ("KILL", "out of memory", "died by SIGKILL (the kernel does so where memory runs out)",
     "give it more memory, or lower search.workers or training.batch_size"),
    ("memory", "out of memory", "ran out of memory", "give it more memory, or lower search.workers or"),
    ("value", "ValueError", "ValueError: a planted bug",
     "correct what is wrong, or take what fails out of search.space")])
def test_a_search_that_loses_too_many_stops_and_says_why(digits_folder: Path, tmp_path: Path, plan: Any, how: str,
                                                         kind: str, first: str, cure: str) -> None:
    plan(silu=how)
    with pytest.raises(WorkError) as caught:
        _search(_params(2, ["silu"]), digits_folder, tmp_path)
    told = str(caught.value)
    assert told.startswith(f"2 of the 3 candidates of this round were lost to one reason ({kind}), more than a third, "
                           "so the search stops; of the first: ")
    assert first in told and "\n" not in told
    assert f"; what is done is kept: {cure}" in told
    assert told.endswith(", and run the same command again, which tries the lost candidates again.")
    assert not (tmp_path / "out").exists()
    plan()
    assert {record["status"] for record in _search(_params(2, ["silu"]), digits_folder, tmp_path)} == {"feasible"}


def test_lost_to_different_reasons_it_goes_on(digits_folder: Path, tmp_path: Path, plan: Any) -> None:
    params = _params(6, ["relu", "silu", "softplus"])
    schedule = new_schedule(params, read_json(digits_folder / "dataset.json"))
    drawn = [request.genome.activation for request in schedule.ask([], lambda: False)]
    first, second, _ = sorted({"relu", "silu", "softplus"}, key=drawn.count)
    assert 0 < drawn.count(first) <= drawn.count(second) <= 2
    plan(**{first: "SEGV", second: "memory"})
    found = _search(params, digits_folder, tmp_path)
    gone = [record["genome"]["activation"] for record in found if record["status"] == "infeasible"]
    assert sorted(gone) == sorted([first] * drawn.count(first) + [second] * drawn.count(second))


@pytest.mark.slow
def test_what_was_trained_before_it_stopped_is_not_trained_again(digits_folder: Path, tmp_path: Path,
                                                                 plan: Any) -> None:
    plan(silu="KILL", honest=True)
    with pytest.raises(WorkError, match="^2 of the 3 candidates"):
        _search(_params(2, ["silu"]), digits_folder, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/candidates").glob("*/training.json")}
    assert len(before) == 1, "the undefended network is done"
    plan(honest=True)
    found = _search(_params(2, ["silu"]), digits_folder, tmp_path)
    assert {record["status"] for record in found} == {"feasible"} and len(found) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(("kinds", "total", "stops"), [
    (["SIGSEGV"], 1, False), (["SIGSEGV"], 2, False), (["SIGSEGV"] * 2, 2, True), (["SIGSEGV"] * 2, 5, True),
    (["SIGSEGV"] * 2, 6, False), (["SIGSEGV"] * 3, 9, False), (["SIGSEGV"] * 4, 9, True), ([], 6, False),
    (["SIGSEGV"] * 2 + ["time"] * 2, 6, False), (["SIGSEGV", "time", "out of memory", "ValueError"], 4, False)])
def test_more_than_a_third_and_never_a_single_one(kinds: list[str], total: int, stops: bool) -> None:
    gone = [(kind, f"{kind} of x") for kind in kinds]
    if stops:
        with pytest.raises(WorkError, match=f"^{len(kinds)} of the {total} candidates .* SIGSEGV of x; what is done"):
            lost.refuse_too_many(gone, total)
    else:
        lost.refuse_too_many(gone, total)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"search": {"minimum_clean_accuracy": 1.0}},
    {"training": {"gradient_clip": 0.0}, "search": {"space": {"learning_rate": [10.0]}}},
    {"search": {"space": {"backbone": ["small_cnn"]}}}], ids=["below the bar", "not finite", "does not fit"])
def test_what_is_a_candidates_own_fault_does_not_stop_a_search(digits_folder: Path, tmp_path: Path,
                                                               changes: dict[str, Any]) -> None:
    own = changes.get("search", {})
    settings = parse(Params, {**TINY, "training": {**TINY["training"], **changes.get("training", {})}, "search": {
        **TINY["search"], **own, "generations": 1, "space": {**TINY["search"]["space"], **own.get("space", {})}}})
    with pytest.raises(WorkError, match="^all 2 candidates failed: "):
        _search(settings, digits_folder, tmp_path)


def test_what_is_taken_out_leaves_something_to_search() -> None:
    space = SearchSpace({"backbone": ["plain"], "width": [4, 8], "depth": [2]})
    told = lost.how_to_leave_out(Genome(width=4), space)
    assert told == ("to leave it out, take one of its values out of search.space: width 4 or activation relu or "
                    "denoiser none")
    only = SearchSpace({name: [getattr(Genome().canonical(), name)] for name in Genome().to_dict()})
    assert lost.how_to_leave_out(Genome(), only) == ""


def test_on_a_cluster_a_generation_that_is_lost_stops_the_search_too(digits_folder: Path, tmp_path: Path) -> None:
    params = _params(3, ["relu"])
    candidates.run(params, digits_folder, tmp_path / "first")
    proposals = read_json(tmp_path / "first" / search_folder.PROPOSALS)
    folders = []
    for place, proposal in enumerate(proposals):
        for step in (results.TRAINING, results.ATTACK_EVALUATION, results.EXPORT):
            folder = tmp_path / f"{place}-{step}"
            gone = {"lost": "SIGSEGV"} if step == results.TRAINING and place in (1, 2) else {}
            results.write(folder / step, candidate=proposal["id"], key="k", status="infeasible", **gone,
                          reason=f"training of {place} died")
            folders.append(folder)
    with pytest.raises(WorkError, match=r"^2 of the 4 .*\(SIGSEGV\).* of the first: training of 1 died; what"):
        candidates.run(params, digits_folder, tmp_path / "second", previous=tmp_path / "first", results=folders)
    assert not (tmp_path / "second").exists()
    # One that is missing alone is chance; that all are is not.
    with pytest.raises(WorkError, match=r"^4 of the 4 candidates .*\(no result\)"):
        candidates.run(params, digits_folder, tmp_path / "second", previous=tmp_path / "first", results=[])
