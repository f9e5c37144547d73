"""A real search with rungs, inherited weights, second evaluations and seeds: killed and resumed it ends the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch

from parapet import schemas
from parapet.config import Params, parse, to_dict
from parapet.data.info import read_info
from parapet.disk.files import read_json
from parapet.models import Network, load
from parapet.search.front import front
from parapet.search.schedule import trained_from_scratch
from parapet.search.session import Session, proposal_of
from parapet.steps import measure
from parapet.store import archive
from parapet.store import records as store
from parapet.store.records import Parent, Request
from tests.fronts import identity
from tests.steps.rungs import RUNGS, command, journal, kill, lines, trainings

NAMES = ("clean_error", "robust_error", "flops")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Path:
    """The folder of the search, left alone."""
    folder = tmp_path_factory.mktemp("rungs")
    done = subprocess.run(command(folder, digits_folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_archive_holds_every_round(alone: Path) -> None:
    records = archive.read(journal(alone))
    for record in [*records, *archive.read(alone / "search/archive.jsonl")]:
        schemas.validate("archive_record", record)
    first = Counter((record["fidelity"]["rung"], record["generation"]) for record in records
                    if not record["final"] and record["looks"] == 1)
    # Half of 4 and half of those go on; of the rungs so far, 8 and 4, another two and another one at least.
    assert [first[rung, 0] for rung in range(3)] == [4, 2, 1]
    assert first[0, 1] == 4 and 0 < first[1, 1] <= 4 and first[2, 1] > 0
    kinds = Counter((record["fidelity"]["rung"], record["parent"] and record["parent"]["kind"]) for record in records
                    if not record["final"])
    assert set(kinds) == {(0, None), (0, "inherited"), (1, "promoted"), (2, "promoted")}
    assert any(record["looks"] == 2 for record in records if not record["final"])


def test_cheap_rungs_cost_less_and_full_training_is_exported(alone: Path) -> None:
    records = archive.read(journal(alone))
    for record in records:
        assert (record["latency_ms"] is not None) == record["fidelity"]["full"]
    costs = {rung: [record["training_flops"] for record in records if record["fidelity"]["rung"] == rung
                    and record["parent"] and record["parent"]["kind"] == "promoted"] for rung in (1, 2)}
    scratch = [record["training_flops"] for record in records if record["final"]]
    # A promoted candidate trains one or two epochs of four; one from scratch all of them.
    assert max(costs[1]) < max(costs[2]) < max(scratch)


def test_the_front_was_trained_from_scratch_with_two_seeds_and_evaluated_twice(alone: Path) -> None:
    records = store.read(alone / "search/archive.jsonl")
    ids = read_json(alone / "search/front_ids.json")["ids"]
    members = front(trained_from_scratch(records), NAMES)
    assert ids == [member.id for member in members] and ids
    for member in members:
        assert (member.parent, member.repeat, member.evaluations) == (None, 0, 2) and member.fidelity.full
        assert member.validation.n == 120  # other images in each evaluation
        other, = (record for record in records if record.point == member.point and record.repeat == 1)
        assert other.training_key != member.training_key and other.seed != member.seed
    assert {path.name for path in (alone / "search/candidates").iterdir()} == \
        {*ids, read_json(alone / "search/undefended.json")["id"]}


def test_the_archive_is_in_order(alone: Path) -> None:
    for path in (journal(alone), alone / "search/archive.jsonl"):
        done = subprocess.run([sys.executable, "-m", "parapet.cli", "archive", "verify", "--archive", str(path),
                               "--cache", str(alone / "cache")], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "all in order." in done.stdout, done.stdout + done.stderr


def test_killed_in_each_part_and_resumed_it_ends_the_same(alone: Path, tmp_path: Path, digits_folder: Path) -> None:
    line, total = command(tmp_path, digits_folder), len(trainings(alone))
    finished: dict[str, float] = {}
    for wanted in (3, total // 2, total - 1):
        run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while time.monotonic() < end and run.poll() is None and len(trainings(tmp_path)) < wanted:
            time.sleep(0.02)
        assert run.poll() is None, f"it ended before {wanted} trainings, with {run.returncode}"
        workers = psutil.Process(run.pid).children()
        kill(signal.SIGKILL, run.pid, *(worker.pid for worker in workers))
        run.wait()
        assert psutil.wait_procs(workers, timeout=10)[1] == [], "a worker outlived its search"
        now = trainings(tmp_path)
        assert finished.items() <= now.items(), "a candidate was trained twice"
        finished = now
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished.items() <= trainings(tmp_path).items() and trainings(tmp_path).keys() == trainings(alone).keys()
    assert lines(tmp_path) == lines(alone)
    fronts = [front(trained_from_scratch(store.read(folder / "search/archive.jsonl")), NAMES)
              for folder in (alone, tmp_path)]
    assert identity(fronts[0]) == identity(fronts[1])
    assert read_json(tmp_path / "search/front_ids.json") == read_json(alone / "search/front_ids.json")


@pytest.mark.parametrize("kind", ["promoted", "inherited"])
def test_a_candidate_with_a_parent_begins_with_its_weights(kind: str, digits_folder: Path, tmp_path: Path) -> None:
    """At a learning rate of a millionth a network stays where it begins; another seed begins elsewhere."""
    params = parse(Params, {**RUNGS, "search": {**RUNGS["search"], "space": {
        **RUNGS["search"]["space"], "learning_rate": [1e-6]}}})
    info = read_info(digits_folder)
    session = Session(params, info, "cpu")
    first = session.ask(lambda: False)[1]

    def measured(request: Request) -> Network:
        proposal = proposal_of(request, params, info, "cpu", 0).to_json()
        record = measure.run(proposal=proposal, params=to_dict(params), dataset=str(digits_folder),
                             cache=str(tmp_path), device="cpu")
        keys.append(record["training_key"])
        return load(measure.folder_of(tmp_path, record["training_key"]) / "model.safetensors")

    keys: list[str] = []
    parent = measured(first)
    rung = session.schedule.ladder[1] if kind == "promoted" else first.fidelity
    child = measured(Request(first.genome, rung, Parent(keys[0], kind, 1 if kind == "promoted" else 0)))
    elsewhere = measured(Request(first.genome, first.fidelity, repeat=1))
    assert len(set(keys)) == 3
    assert _apart(child, parent) < 0.01 < 0.3 < _apart(elsewhere, parent)


def _apart(one: Network, other: Network) -> float:
    """Distance of all weights over their length."""
    weights = [torch.cat([value.detach().flatten() for value in network.parameters()]) for network in (one, other)]
    return float((weights[0] - weights[1]).norm() / weights[1].norm())
