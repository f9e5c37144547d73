"""Replayed searches pay each training once, and are judged by networks from scratch at full fidelity alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.search import fidelities, plot, setting, verdict
from benchmarks.search.replay import Curve, Replay, Table, load
from benchmarks.search.strategies import PLAIN, STRATEGIES, Limit, optuna_version
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.search.front import hypervolume
from parapet.store.records import Parent, Record, Request

LADDER = setting.ladder()
CONFIG = setting.params().search


def _rows(genome: Genome, place: int, *, inherited: bool = True) -> list[dict]:
    """All rows of a genome: seconds 1, 2 and 4 up the ladder, and 10 from scratch; cheap rungs look far too good."""
    name = genome.digest()[:12]

    def row(kind: str, rung: int, robust: float, seconds: float) -> dict:
        found = {"genome": name, "kind": kind, "rung": rung, "cpu_seconds": seconds, "flops": 1000 * (place + 2),
                 "params": 10, "validation": [0.9, robust, 100]}
        return found | ({"test": [0.8, robust - 0.1, 100]} if rung == 2 else {})

    robust = 0.3 + 0.1 * place
    rows = [row("scratch", 2, robust, 10.0)]
    for kind, better in (("cold", 0.0), ("inherited", 0.05))[:1 + inherited]:
        rows += [row(kind, 0, 0.99, 1.0), row(kind, 1, 0.98, 2.0), row(kind, 2, robust + better, 4.0)]
    return rows


GENOMES = setting.genomes()[:4]
ROWS = [row for place, genome in enumerate(GENOMES) for row in _rows(genome, place, inherited=place > 0)]


@pytest.fixture
def replay() -> Replay:
    return Replay(Table(ROWS, GENOMES), CONFIG)


def _climbed(record: Record, rung: int) -> Request:
    return Request(record.genome, LADDER[rung], Parent(record.training_key, "promoted", record.fidelity.epochs))


def test_each_row_is_paid_once(replay: Replay) -> None:
    request = Request(GENOMES[0], LADDER[0])
    low = replay.answer(request)
    assert replay.seconds == 1.0 and replay.answer(request) is low and replay.seconds == 1.0
    middle = replay.answer(_climbed(low, 1))
    assert replay.seconds == 3.0
    full = replay.answer(_climbed(middle, 2))
    assert replay.seconds == 7.0 and len(replay.records) == 3 and full.validation.robust_accuracy == 0.3
    replay.answer(Request(GENOMES[0], LADDER[2], final=True))
    assert replay.seconds == 17.0 and replay.trainings == 1
    replay.answer(Request(GENOMES[1], LADDER[1]))  # a course that begins a rung higher pays for the rung below
    assert replay.seconds == 20.0


def test_low_rungs_are_no_results_and_the_handover_is_paid(replay: Replay) -> None:
    for rung in (0, 1):
        replay.answer(Request(GENOMES[1], LADDER[rung]))
    assert replay.points == []
    replay.answer(_climbed(replay.records[-1], 2))
    (seconds, validation, test), = replay.points
    assert replay.seconds == 7.0 and seconds == 17.0  # 1 + 2 + 4, and 10 to train the front from scratch
    scratch = Replay(replay.table, CONFIG)
    record = scratch.answer(Request(GENOMES[1], LADDER[2]))
    assert scratch.points == [(10.0, validation, test)]
    assert validation == hypervolume([record], CONFIG.ideal, CONFIG.reference) > test > 0
    replay.answer(Request(GENOMES[1], LADDER[2], final=True))  # done, the handover costs what it was said to
    assert replay.points[-1] == (17.0, validation, test)


def test_inherited_rows_answer_requests_to_inherit_where_there_are_any(replay: Replay) -> None:
    inherited = Parent("of any parent", "inherited", 0)
    first, second = (replay.answer(Request(genome, LADDER[0], inherited)) for genome in GENOMES[:2])
    for record, robust in ((first, 0.3), (second, 0.45)):
        for rung in (1, 2):
            record = replay.answer(_climbed(record, rung))
        assert record.validation.robust_accuracy == pytest.approx(robust)
    assert replay.seconds == 14.0


def test_what_fails_its_floor_or_its_training_is_infeasible() -> None:
    rows = [dict(row) for row in ROWS]
    rows[0]["validation"] = [0.4, 0.4, 100]
    rows[4] = {key: rows[4][key] for key in ("genome", "kind", "rung", "cpu_seconds")} | {"failed": "not finite"}
    replay = Replay(Table(rows, GENOMES), CONFIG)
    low, failed = (replay.answer(Request(genome, LADDER[2])) for genome in GENOMES[:2])
    assert low.status == failed.status == "infeasible"
    assert low.violation == pytest.approx(0.1) and failed.violation is None
    assert replay.seconds == 20.0 and replay.points[-1] == (20.0, 0.0, 0.0)


def test_a_table_holds_whole_genomes_and_says_so_where_some_lack(tmp_path: Path) -> None:
    assert Table(ROWS, GENOMES).title == "digits, 4 genomes"
    partial = Table(ROWS[1:], GENOMES)
    assert len(partial) == 3 and GENOMES[0] not in partial
    assert partial.title == "digits, PARTIAL TABLE: the space is the 3 of 4 genomes trained so far"
    with pytest.raises(InputError, match=r"holds 0 whole genomes, and a replay needs 48 or more; fill it with"):
        load(tmp_path / "table.jsonl")


def test_a_curve_is_what_stopping_then_would_give() -> None:
    curve = Curve([(10, 0.2, 0.1), (30, 0.3, 0.2), (20, 0.25, 0.3), (40, 0.4, 0.2)], "validation")
    assert [curve.at(seconds) for seconds in (9, 10, 20, 35, 99)] == [0.0, 0.2, 0.25, 0.25, 0.4]
    assert curve.reaches(0.25, 40) == 20 and curve.reaches(0.4, 39) is None
    assert Curve([(10, 0.2, 0.1)], "test").values == [0.1]


def test_the_verdict_by_hand() -> None:
    runs = {PLAIN: [[[50.0, 0.1, 0.1], [100.0, 0.5, 0.4]]] * 3,
            "fast": [[[15.0, 0.6, 0.3]], [[20.0, 0.6, 0.5]], [[150.0, 0.6, 0.5]]]}
    found = verdict.verdict(runs, 100.0, "validation")
    assert found["level"] == 0.5
    fast, plain = found["strategies"]["fast"], found["strategies"][PLAIN]
    assert fast["reached"] == pytest.approx(2 / 3) and fast["ratio"] == [0.2, 0.15, None]
    assert fast["fifth"][0] == 0.6 and plain["ratio"] == [1.0, 1.0, 1.0] and plain["fifth"] == [0.0, 0.0, 0.0]
    record = {"verdict": {"validation": found}}
    assert verdict.sentence(record, "fast", "validation").endswith("the aim of a fifth is met in the median alone.")
    assert verdict.verdict(runs, 100.0, "test")["strategies"]["fast"]["reached"] == pytest.approx(1 / 3)


def test_agreement_of_fidelities_by_hand() -> None:
    rows = {(row["chain"], row["rung"]): row for row in fidelities.agreement(Table(ROWS, GENOMES))}
    assert rows["cold", 2]["tau"] == 1.0 and rows["cold", 2]["gain"]["mean"] == 0.0
    assert rows["cold", 0]["tau"] is None and rows["cold", 0]["robust"] == pytest.approx(0.99)
    assert rows["inherited", 2]["n"] == 3 and rows["inherited", 2]["gain"]["mean"] == pytest.approx(0.05)


@pytest.fixture(scope="module")
def whole() -> Table:
    """A made table of the whole space, in which wider networks are more robust."""
    rows = []
    for genome in setting.genomes():
        for row in _rows(genome, 0):
            robust = 0.2 + genome.width / 40 + genome.eps_ratio / 10 - 0.1 * (row["kind"] == "cold") / (1 + row["rung"])
            rows.append(row | {"validation": [0.9, robust, 100], "flops": 1000 * genome.width * genome.depth}
                        | ({"test": [0.9, robust, 100]} if row["rung"] == 2 else {}))
    return Table(rows)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_keeps_to_its_budget_and_is_repeatable(whole: Table, name: str) -> None:
    if "Optuna" in name:
        pytest.importorskip("optuna")
    limit = Limit(trainings=16) if name == PLAIN else Limit(seconds=160.0)
    once, again = (STRATEGIES[name](whole, 3, 8, limit) for _ in range(2))
    assert once.points == again.points and once.points
    assert once.seconds == pytest.approx(sum(once.table.row(*_key(once, place))["cpu_seconds"]
                                             for place in once._paid))
    if "rung" in name:
        handover = [record for record in once.records if record.final]
        searched = once.seconds - 10.0 * len(handover)
        assert 0 < searched < 160.0 + 8 * 7.0  # the last generation is ended
        assert once.points[-1][0] == once.seconds
    else:
        assert once.seconds == 160.0 and once.trainings == len({record.point for record in once.records}) == 16


def _key(replay: Replay, place: tuple[str, str, int]) -> tuple[Genome, str, int]:
    name, kind, rung = place
    return next(genome for genome in replay.table.genomes if genome.digest()[:12] == name), kind, rung


def test_a_record_is_kept_and_drawn_from_alone(whole: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(verdict, "STRATEGIES", {name: STRATEGIES[name] for name in (PLAIN, "random search")})
    record = verdict.replay_all(whole, seeds=2, population=8, generations=2, say=lambda text: None)
    verdict.write(tmp_path / "record.json", record)
    assert read_json(tmp_path / "record.json") == json.loads(json.dumps(record))
    drawing = plot.picture(read_json(tmp_path / "record.json"))
    assert drawing == plot.picture(record)
    words = " ".join(ElementTree.fromstring(drawing).itertext())
    assert PLAIN in words and "random search" in words and "2 seeds, population 8" in words
    assert "random search" in str(list(verdict.drawn(record, "test").columns[0].cells))
    assert np.isfinite(record["verdict"]["test"]["level"])


def test_without_optuna_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"^Optuna, .* is not installed; run `pip install -e '.\[benchmark\]'`\.$"):
        optuna_version()
