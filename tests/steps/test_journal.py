"""What a search on one machine spends, and which of its records count: with made-up results, nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parapet.config import Params, parse
from parapet.errors import InputError, WorkError
from parapet.files import digest
from parapet.genome import Genome, point
from parapet.search.front import front
from parapet.steps import candidates
from parapet.steps.journal import Journal, line_of
from parapet.store import archive
from tests.search.archive_records import record

INFO = {"image_shape": [1, 8, 8], "classes": list("0123456789"), "fingerprint": "f" * 64}
RICH = {"rungs": [{"epochs": 1}, {"epochs": 2}], "warm_start": True, "looks": 2, "final_seeds": 2}
NAMES = ("clean_error", "robust_error", "flops")


def _params(**section: Any) -> Params:
    return parse(Params, {"search": {"population": 6, "generations": 3, **section}, "training": {"epochs": 4}})


def _made_up(proposal: dict[str, Any], seconds: float = 1.0) -> dict[str, Any]:
    """The record of a proposal: more robust with size, epochs and looks."""
    genome = Genome.from_dict(proposal["genome"])
    size, epochs = genome.width * genome.depth, proposal["fidelity"]["epochs"]
    luck = int(proposal["id"], 16) / 16**12
    made = record(0.5 + 0.02 * epochs + 0.003 * size + 0.01 * luck, 0.2 + 0.02 * epochs + 0.004 * size + 0.02 * luck,
                  1000 * size, genome=genome, training_seconds=seconds)
    return made | {name: proposal[name] for name in ("id", "training_key", "evaluation_key", "generation", "seed",
                                                     "fidelity", "parent", "repeat", "final")} | {
        "looks": proposal["look"]}


def _round(journal: Journal, **options: Any) -> list[dict[str, Any]]:
    """One round; its proposals."""
    proposals = journal.propose("cpu")
    if proposals:
        known = journal.known()
        journal.add(proposals, [known.get(line_of(each)) or _made_up(each, **options) for each in proposals])
    return proposals


def _finished(home: Path, params: Params) -> tuple[Journal, list[list[tuple]]]:
    """A search to its end, opened again for every round; the lines of each round that were not known."""
    rounds = []
    while True:
        journal = Journal.open(home, params, INFO, 1)
        if journal.course.phase == "generation" and journal.course.pending is None and journal.is_over():
            break
        before = set(journal.known())
        rounds.append([line_of(each) for each in _round(journal) if line_of(each) not in before])
    while proposals := _round(journal):
        rounds.append([line_of(each) for each in proposals])
    return journal, rounds


def _all(home: Path, params: Params) -> Journal:
    journal = Journal.open(home, params, INFO, 1)
    while _round(journal):
        pass
    return journal


def _lines(journal: Journal) -> set[tuple[Any, ...]]:
    return {(*line_of(entry), entry["generation"]) for entry in journal.outcome()}


@pytest.mark.parametrize("options", [{}, RICH])
@pytest.mark.parametrize("amount", [5, 13, 18])
def test_a_budget_of_candidates_is_kept_to_one(options: dict[str, Any], amount: int, tmp_path: Path) -> None:
    journal = _all(tmp_path, _params(budget=f"{amount} candidates", **options))
    assert len({point(entry["genome"]) for entry in journal.records}) == amount == journal.looked_at()
    assert journal.course.generation == -(-amount // 6)


def test_without_a_budget_it_is_so_many_generations(tmp_path: Path) -> None:
    journal = _all(tmp_path, _params())
    assert journal.looked_at() == 18 and journal.course.generation == 3


def test_opened_again_for_every_round_it_ends_the_same(tmp_path: Path) -> None:
    interrupted, _ = _finished(tmp_path / "interrupted", _params(**RICH))
    undisturbed = _all(tmp_path / "undisturbed", _params(**RICH))
    assert interrupted.records == undisturbed.records and interrupted.outcome() == undisturbed.outcome()
    assert archive.read(tmp_path / "interrupted/archive.jsonl") == undisturbed.records


def test_a_longer_search_after_a_shorter_one_has_the_outcome_of_an_uninterrupted_one(tmp_path: Path) -> None:
    _all(tmp_path / "grown", _params(**RICH))
    grown = _all(tmp_path / "grown", _params(**RICH | {"generations": 5}))
    whole = _all(tmp_path / "whole", _params(**RICH | {"generations": 5}))
    assert _lines(grown) == _lines(whole)
    assert [entry["id"] for entry in grown.front()] == [entry["id"] for entry in whole.front()]


def test_a_shorter_search_after_a_longer_one_has_the_outcome_of_a_short_one(tmp_path: Path) -> None:
    _all(tmp_path / "shrunk", _params(**RICH | {"generations": 5}))
    shrunk, short = (_all(tmp_path / name, _params(**RICH)) for name in ("shrunk", "short"))
    assert _lines(shrunk) == _lines(short)
    assert max(entry["generation"] for entry in shrunk.outcome()) == 2
    grown, whole = (_all(tmp_path / name, _params(**RICH | {"generations": 6})) for name in ("shrunk", "whole"))
    assert _lines(grown) == _lines(whole)


@pytest.mark.parametrize("rounds", range(6, 13))
def test_stopped_inside_a_generation_and_told_to_end_sooner_it_forgets_nothing(rounds: int, tmp_path: Path) -> None:
    """The generation that was begun is finished, counts for nothing now, and is not told as a failure."""
    journal = Journal.open(tmp_path / "search", _params(**RICH), INFO, 1)
    for _ in range(rounds):
        _round(journal)
    journal.propose("cpu")
    shorter, short = (_all(tmp_path / name, _params(**RICH | {"generations": 1})) for name in ("search", "short"))
    assert _lines(shorter) == _lines(short)
    longer, whole = (_all(tmp_path / name, _params(**RICH)) for name in ("search", "whole"))
    assert _lines(longer) == _lines(whole)


def test_a_budget_of_time_has_at_least_one_generation(tmp_path: Path) -> None:
    journal = _all(tmp_path, _params(budget="1e-9 hours", **RICH))
    assert journal.course.generation == 1 and journal.front()


def test_the_end_is_paid_from_a_budget_of_time(tmp_path: Path) -> None:
    """Trainings of 100 s: after one generation the front from scratch, with two seeds, would go over an hour."""
    journal = Journal.open(tmp_path, _params(budget="1 gpu-hours", **RICH), INFO, 1)
    while journal.course.generation == 0:
        _round(journal, seconds=100.0)
    members = front(archive.latest(journal.records), NAMES)
    assert all(member["parent"] for member in members)
    # A promoted member's 100 s were for 2 of 4 epochs.
    assert journal.spent() == pytest.approx(len(members) * 2 * 200 / 3600)


def test_a_round_that_was_added_twice_is_there_once(tmp_path: Path) -> None:
    """Killed between the archive and the state: the same round is measured again, from what is known."""
    journal = Journal.open(tmp_path, _params(), INFO, 1)
    proposals = journal.propose("cpu")
    state = (tmp_path / "state.json").read_bytes()
    fresh = [_made_up(each) for each in proposals]
    journal.add(proposals, fresh)
    (tmp_path / "state.json").write_bytes(state)
    again = Journal.open(tmp_path, _params(), INFO, 1)
    assert again.propose("cpu") == proposals[1:], "the undefended network has a file of its own"
    again.add(proposals[1:], fresh[1:])
    assert again.records == journal.records == archive.read(tmp_path / "archive.jsonl")
    assert again.course.state() == journal.course.state()


def test_the_end_of_the_generations_is_said_once(tmp_path: Path) -> None:
    journal, said = Journal.open(tmp_path, _params(**RICH), INFO, 1), []
    while _round(journal):
        said += journal.notes()
    said += journal.notes()
    end = "no generation follows; what is left is the front: trained from scratch, looked at again"
    assert said.count(end) == 1
    assert sum(text.startswith("generation ") for text in said) == 3


@pytest.mark.parametrize(("changes", "refused"), [
    ({"violation": 0.2}, False), ({"violation": 1.0}, True), ({"violation": None, "validation": None}, True)])
def test_a_cheap_rung_below_the_floor_is_no_failed_search(changes: dict[str, Any], refused: bool) -> None:
    low = [record(rung=0, status="infeasible", reason="clean accuracy", **changes)] * 3
    if refused:
        with pytest.raises(WorkError, match="^all 3 candidates failed: clean accuracy.$"):
            candidates.refuse_empty_front(low)
    else:
        candidates.refuse_empty_front(low)
    full = [record(status="infeasible", reason="clean accuracy", **changes)]
    with pytest.raises(WorkError):
        candidates.refuse_empty_front(full)


def _lines_said(state: bytes, lines: int) -> bytes:
    """state.json with another number of lines, under a checksum that fits."""
    said = {**json.loads(state), "lines": lines}
    said.pop("checksum")
    return json.dumps({**said, "checksum": digest(said)}).encode()


def test_a_journal_and_a_state_that_do_not_fit_are_told_and_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "search"
    _all(home, _params())
    written = {name: (home / name).read_bytes() for name in ("state.json", "archive.jsonl")}
    lines = written["archive.jsonl"].splitlines(keepends=True)
    remedy = f"put it back, or move {home} away to start the search anew."
    for name, content, said in (
            ("archive.jsonl", b"".join(lines[:-2]), f"{home}/archive.jsonl has {len(lines) - 2} lines, and the search "
                                                    f"had written {len(lines)}; {remedy}"),
            ("state.json", None, f"{home}/state.json is missing, and the archive beside it has {len(lines)} lines; "
                                 f"{remedy}"),
            ("state.json", b"{}", f"{home}/state.json is damaged, or from another version of Parapet; {remedy}"),
            ("state.json", written["state.json"][:40], f"{home}/state.json is damaged, or from another version of "
                                                       f"Parapet; {remedy}"),
            *(("state.json", _lines_said(written["state.json"], lines), f"{home}/state.json is damaged, or from "
               f"another version of Parapet; {remedy}") for lines in (-1, -10**30))):
        (home / name).unlink()
        if content is not None:
            (home / name).write_bytes(content)
        with pytest.raises(InputError) as refused:
            Journal.open(home, _params(), INFO, 1)
        assert str(refused.value) == said
        (home / name).write_bytes(written[name])
    assert _lines(_all(home, _params()))


def test_the_undefended_network_is_measured_again_where_it_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "search"
    _all(home, _params())
    (home / "undefended.json").unlink()
    journal = Journal.open(home, _params(), INFO, 1)
    proposals = _round(journal)
    assert [proposal.get("undefended") for proposal in proposals] == [True]
    assert (home / "undefended.json").exists() and journal.propose("cpu") == []
