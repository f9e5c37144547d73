"""What `parapet check` says of a search that cannot be: one sentence and exit code 2, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from parapet import cli
from parapet.data import digits as digits_files

# Every gene with one value, but for those that a test gives.
ONE = ("backbone: [plain], width: [4], depth: [1], activation: [relu], denoiser: [none], denoiser_stage: [1], "
       "input_filter: [none], loss: [pgd], clean_share: [0.0], trades_beta: [1.0], eps_ratio: [1.0], steps: [1], "
       "weight_decay: [0.0], ")
BUDGETS = "write for example 200 candidates, 90 minutes, 2 hours or 8 gpu-hours."


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the digits in data/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARAPET_DATA", raising=False)
    digits_files.export(tmp_path / "data" / "digits")
    return tmp_path


@pytest.mark.parametrize(("search", "sentence"), [
    ("space: {width: []}", "search.space.width is empty; list at least one choice, or leave the gene out to search all "
     "of 4, 8, 12, 16."),
    (f"space: {{{ONE} learning_rate: [0.1]}}", "every gene of search.space has one value, which leaves one genome and "
     "nothing to search; list more choices, or train that one with `parapet train`."),
    (f"space: {{{ONE} learning_rate: [0.1, 0.2]}}", "search.space holds at most 2 genomes, fewer than "
     "search.population (8); widen the space or lower the population."),
    # A beta that plain PGD does not use makes no other genome.
    (f"population: 3, space: {{{ONE.replace('[1.0], eps', '[1.0, 2.0], eps')} learning_rate: [0.1, 0.2]}}",
     "search.space yields 2 different genomes, fewer than search.population (3); widen the space, raise the ceilings, "
     "or lower the population."),
    ("maximum_flops: 10", "search.maximum_flops, maximum_params or maximum_latency_ms leave nothing of search.space: "
     "no genome that was drawn from it stays below them; raise them, or list smaller choices in search.space."),
    (f"population: 4, maximum_params: 1000, space: {{{ONE.replace('width: [4]', 'width: [4, 64]')} "
     "learning_rate: [0.1, 0.2, 0.4]}", "search.space yields 3 different genomes below its ceilings, fewer than "
     "search.population (4); widen the space, raise the ceilings, or lower the population."),
    ("budget: a while", f"search.budget is 'a while'; {BUDGETS}"),
    ("budget: 0 hours", "search.budget is '0 hours', and a search needs more than nothing and less than everything; "
     f"{BUDGETS}"),
    ("budget: 2.5 candidates", f"search.budget is '2.5 candidates', and candidates are whole; {BUDGETS}"),
    ("rungs: [{epochs: 4}, {epochs: 2}]", "search.rungs[0].epochs is 4, and search.rungs[1].epochs is 2; epochs count "
     "from the start of training, so each rung needs more of them than the one below."),
    ("rungs: [{epochs: 12}]", "search.rungs[0].epochs is 12, and training.epochs is 12; epochs count from the start of "
     "training, so each rung needs more of them than the one below."),
])
def test_a_search_that_cannot_be_is_told_before_any_work(here: Path, capsys: pytest.CaptureFixture, search: str,
                                                         sentence: str) -> None:
    (here / "params.yaml").write_text(f"search: {{{search}}}")
    assert cli.main(["check"]) == 2
    said = capsys.readouterr()
    assert said.err == f"parapet: {sentence}\n" or said.err == f"parapet: params.yaml: {sentence}\n"
    assert said.out == ""


def test_the_search_itself_says_the_same(here: Path, capsys: pytest.CaptureFixture, digits_folder: Path) -> None:
    (here / "params.yaml").write_text("search: {rungs: [{epochs: 12}]}")
    for more in ([], ["--dry-run"], ["--watch"]):
        assert cli.main(["search", "--dataset", str(digits_folder), *more]) == 2
        assert capsys.readouterr().err.startswith("parapet: search.rungs[0].epochs is 12, and training.epochs is 12;")
    assert not (here / ".parapet").exists()


def test_a_gene_with_one_value_is_simply_fixed(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "params.yaml").write_text("search: {space: {width: [8], depth: [1]}}")
    assert cli.main(["check"]) == 0
    assert "4 generations of 8" in capsys.readouterr().out


def test_a_budget_goes_before_generations(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "params.yaml").write_text("search: {budget: 2 hours}")
    assert cli.main(["check"]) == 0
    assert "2 hours, 8 a generation, on " in capsys.readouterr().out


def test_rounds_that_an_unrolled_search_does_not_have_are_told(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "params.yaml").write_text("search: {rungs: [{epochs: 2}]}")
    assert cli.main(["check"]) == 0
    assert cli.main(["check", "--unrolled"]) == 2
    assert capsys.readouterr().err == (
        "parapet: search.rungs is given, and a search that is unrolled into tasks has one round a generation, all of "
        "whose candidates are trained; leave it out, or search on one machine with `parapet run`.\n")
