"""What a search on one machine spends, and which of its records count: with made-up results, nothing is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parapet.config import Params, parse
from parapet.disk.files import digest
from parapet.errors import InputError, WorkError
from parapet.search.feasibility import refuse_empty_front
from parapet.search.front import front
from parapet.search.journal import Journal
from parapet.store import records as store
from parapet.store.records import Proposal, Record
from tests.search.archive_records import record

INFO = {"image_shape": [1, 8, 8], "classes": list("0123456789"), "fingerprint": "f" * 64}
RICH = {"rungs": [{"epochs": 1}, {"epochs": 2}], "warm_start": True, "evaluations": 2, "final_seeds": 2}
NAMES = ("clean_error", "robust_error", "flops")


def _params(**section: Any) -> Params:
    return parse(Params, {"search": {"population": 6, "generations": 3, **section}, "training": {"epochs": 4}})


def _made_up(proposal: Proposal, seconds: float = 1.0) -> Record:
    """The record of a proposal: more robust with size, epochs and evaluations."""
    size, epochs = proposal.genome.width * proposal.genome.depth, proposal.fidelity.epochs
    luck = int(proposal.id, 16) / 16**12
    made = record(0.5 + 0.02 * epochs + 0.003 * size + 0.01 * luck, 0.2 + 0.02 * epochs + 0.004 * size + 0.02 * luck,
                  1000 * size, genome=proposal.genome, training_seconds=seconds)
    return replace(made, evaluations=proposal.evaluation, **{name: getattr(proposal, name) for name in (
        "id", "training_key", "evaluation_key", "generation", "seed", "fidelity", "parent", "repeat", "final")})


def _round(journal: Journal, **options: Any) -> list[Proposal]:
    """One round; its proposals."""
    proposals = journal.ask()
    if proposals:
        known = journal.session.known
        journal.tell(proposals, [known.get(each.line) or _made_up(each, **options) for each in proposals])
    return proposals


def _open(home: Path, params: Params) -> Journal:
    return Journal.open(home, params, INFO, "cpu", 1)


def _finished(home: Path, params: Params) -> tuple[Journal, list[list[tuple]]]:
    """A search to its end, opened again for every round; the lines of each round that were not known."""
    rounds = []
    while True:
        journal = _open(home, params)
        schedule = journal.session.schedule
        if schedule.phase == "generation" and schedule.pending is None and journal.is_over():
            break
        before = set(journal.session.known)
        rounds.append([each.line for each in _round(journal) if each.line not in before])
    while proposals := _round(journal):
        rounds.append([each.line for each in proposals])
    return journal, rounds


def _all(home: Path, params: Params) -> Journal:
    journal = _open(home, params)
    while _round(journal):
        pass
    return journal


def _lines(journal: Journal) -> set[tuple[Any, ...]]:
    return {(*each.line, each.generation) for each in journal.session.candidates()}


@pytest.mark.parametrize("options", [{}, RICH])
@pytest.mark.parametrize("amount", [5, 13, 18])
def test_a_budget_of_candidates_is_kept_to_one(options: dict[str, Any], amount: int, tmp_path: Path) -> None:
    journal = _all(tmp_path, _params(budget=f"{amount} candidates", **options))
    assert len({each.point for each in journal.session.records}) == amount == journal.genomes()
    assert journal.session.schedule.generation == -(-amount // 6)


def test_without_a_budget_it_is_so_many_generations(tmp_path: Path) -> None:
    journal = _all(tmp_path, _params())
    assert journal.genomes() == 18 and journal.session.schedule.generation == 3


def test_opened_again_for_every_round_it_ends_the_same(tmp_path: Path) -> None:
    interrupted, _ = _finished(tmp_path / "interrupted", _params(**RICH))
    undisturbed = _all(tmp_path / "undisturbed", _params(**RICH))
    assert interrupted.session.records == undisturbed.session.records
    assert interrupted.session.candidates() == undisturbed.session.candidates()
    assert store.read(tmp_path / "interrupted/archive.jsonl") == undisturbed.session.records


def test_a_longer_search_after_a_shorter_one_has_the_outcome_of_an_uninterrupted_one(tmp_path: Path) -> None:
    _all(tmp_path / "grown", _params(**RICH))
    grown = _all(tmp_path / "grown", _params(**RICH | {"generations": 5}))
    whole = _all(tmp_path / "whole", _params(**RICH | {"generations": 5}))
    assert _lines(grown) == _lines(whole)
    assert [each.id for each in grown.session.front()] == [each.id for each in whole.session.front()]


def test_a_shorter_search_after_a_longer_one_has_the_outcome_of_a_short_one(tmp_path: Path) -> None:
    _all(tmp_path / "shrunk", _params(**RICH | {"generations": 5}))
    shrunk, short = (_all(tmp_path / name, _params(**RICH)) for name in ("shrunk", "short"))
    assert _lines(shrunk) == _lines(short)
    assert max(each.generation for each in shrunk.session.candidates()) == 2
    grown, whole = (_all(tmp_path / name, _params(**RICH | {"generations": 6})) for name in ("shrunk", "whole"))
    assert _lines(grown) == _lines(whole)


@pytest.mark.parametrize("rounds", range(6, 13))
def test_stopped_inside_a_generation_and_told_to_end_sooner_it_forgets_nothing(rounds: int, tmp_path: Path) -> None:
    """The generation that was begun is finished, counts for nothing now, and is not told as a failure."""
    journal = _open(tmp_path / "search", _params(**RICH))
    for _ in range(rounds):
        _round(journal)
    journal.ask()
    shorter, short = (_all(tmp_path / name, _params(**RICH | {"generations": 1})) for name in ("search", "short"))
    assert _lines(shorter) == _lines(short)
    longer, whole = (_all(tmp_path / name, _params(**RICH)) for name in ("search", "whole"))
    assert _lines(longer) == _lines(whole)


def test_a_budget_of_time_has_at_least_one_generation(tmp_path: Path) -> None:
    journal = _all(tmp_path, _params(budget="1e-9 hours", **RICH))
    assert journal.session.schedule.generation == 1 and journal.session.front()


def test_the_end_is_paid_from_a_budget_of_time(tmp_path: Path) -> None:
    """Trainings of 100 s: after one generation the front from scratch, with two seeds, would go over an hour."""
    journal = _open(tmp_path, _params(budget="1 gpu-hours", **RICH))
    while journal.session.schedule.generation == 0:
        _round(journal, seconds=100.0)
    members = front(store.latest(journal.session.records), NAMES)
    assert all(member.parent for member in members)
    # A promoted member's 100 s were for 2 of 4 epochs.
    assert journal.spent() == pytest.approx(len(members) * 2 * 200 / 3600)


def test_a_round_that_was_added_twice_is_there_once(tmp_path: Path) -> None:
    """Killed between the archive and the state: the same round is measured again, from what is known."""
    journal = _open(tmp_path, _params())
    proposals = journal.ask()
    state = (tmp_path / "state.json").read_bytes()
    fresh = [_made_up(each) for each in proposals]
    journal.tell(proposals, fresh)
    (tmp_path / "state.json").write_bytes(state)
    again = _open(tmp_path, _params())
    assert again.ask() == proposals[1:], "the undefended network has a file of its own"
    again.tell(proposals[1:], fresh[1:])
    assert again.session.records == journal.session.records == store.read(tmp_path / "archive.jsonl")
    assert again.session.schedule.state() == journal.session.schedule.state()


def test_the_end_of_the_generations_is_said_once(tmp_path: Path) -> None:
    journal, said = _open(tmp_path, _params(**RICH)), []
    while _round(journal):
        said += journal.notes()
    said += journal.notes()
    end = "no generation follows; the front is now trained from scratch and evaluated again"
    assert said.count(end) == 1
    assert sum(text.startswith("generation ") for text in said) == 3


@pytest.mark.parametrize(("changes", "refused"), [
    ({"violation": 0.2}, False), ({"violation": 1.0}, True), ({"violation": None, "validation": None}, True)])
def test_a_cheap_rung_below_the_floor_is_no_failed_search(changes: dict[str, Any], refused: bool) -> None:
    low = [record(rung=0, status="infeasible", reason="clean accuracy", **changes)] * 3
    if refused:
        with pytest.raises(WorkError, match="^all 3 candidates failed: clean accuracy.$"):
            refuse_empty_front(low)
    else:
        refuse_empty_front(low)
    full = [record(status="infeasible", reason="clean accuracy", **changes)]
    with pytest.raises(WorkError):
        refuse_empty_front(full)


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
            _open(home, _params())
        assert str(refused.value) == said
        (home / name).write_bytes(written[name])
    assert _lines(_all(home, _params()))


def test_the_undefended_network_is_measured_again_where_it_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "search"
    _all(home, _params())
    (home / "undefended.json").unlink()
    journal = _open(home, _params())
    proposals = _round(journal)
    assert [proposal.undefended for proposal in proposals] == [True]
    assert (home / "undefended.json").exists() and journal.ask() == []
