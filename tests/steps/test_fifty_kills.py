"""The driver, a worker, or all of them killed at fifty random moments: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from parapet.disk.files import read_json
from parapet.search.front import front
from parapet.search.schedule import trained_from_scratch
from parapet.store import archive
from parapet.store import records as store
from parapet.tracking.connection import connect
from tests.fronts import identity
from tests.steps.rungs import RUNGS, command, journal, kill, lines, trainings

KILLS = int(os.environ.get("PARAPET_TEST_KILLS", "50"))
TRACKED = {**RUNGS, "tracking": {"enabled": True, "experiment": "kills"},
           "search": {**RUNGS["search"], "workers": 2}}
NAMES = ("clean_error", "robust_error", "flops")


@pytest.mark.slow
def test_fifty_kills_at_random_moments(tmp_path: Path, digits_folder: Path) -> None:
    """Where a search ends before all kills are spent, it is looked at and another one begins."""
    chance, kills, searches = random.Random(0), 0, 0
    alone = _folder(tmp_path / "alone")
    begun = time.monotonic()
    _to_the_end(alone, digits_folder)
    whole = time.monotonic() - begun
    _check(alone, alone)
    while kills < KILLS:
        folder = _folder(tmp_path / f"killed-{searches}")
        searches, finished = searches + 1, {}
        run = None
        while kills < KILLS:
            run = run if run and run.poll() is None else _start(folder, digits_folder)
            try:
                # A search that begins anew needs a moment before it has anything to lose.
                run.wait(chance.uniform(0.1, 0.6) * whole)
                break
            except subprocess.TimeoutExpired:
                _strike(run, chance.choice(("driver", "worker", "all")), chance)
                kills += 1
            now = trainings(folder)
            assert finished.items() <= now.items(), "a candidate was trained twice"
            finished = now
        if run.poll() is None:
            run.wait(600)
        # A killed one and one that ended by itself: both go on to the end from where they are.
        assert finished.items() <= trainings(folder).items(), "a candidate was trained twice"
        finished = trainings(folder)
        _to_the_end(folder, digits_folder)
        assert finished.items() <= trainings(folder).items(), "a candidate was trained twice"
        _check(folder, alone)
    assert kills == KILLS


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _start(folder: Path, dataset: Path) -> subprocess.Popen:
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command(folder, dataset, TRACKED), stdout=log, stderr=log, cwd=folder, env=environment)


def _to_the_end(folder: Path, dataset: Path) -> None:
    assert _start(folder, dataset).wait(900) == 0, (folder / "log.txt").read_text()[-3000:]


def _strike(run: subprocess.Popen, victim: str, chance: random.Random) -> None:
    """SIGKILL; whoever has to end with its parent has ended when this returns."""
    workers = psutil.Process(run.pid).children()
    if victim == "worker":
        if workers:
            kill(signal.SIGKILL, chance.choice(workers).pid)
        return
    kill(signal.SIGKILL, run.pid, *(worker.pid for worker in workers if victim == "all"))
    run.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == [], "a worker outlived its search"


def _check(folder: Path, alone: Path) -> None:
    """The same archive and front as `alone`, and one run in MLflow for each candidate."""
    assert lines(folder) == lines(alone)
    assert trainings(folder).keys() == trainings(alone).keys()
    records, expected = (store.read(each / "search/archive.jsonl") for each in (folder, alone))
    found, wanted = (identity(front(trained_from_scratch(each), NAMES)) for each in (records, expected))
    assert found == wanted
    assert read_json(folder / "search/front_ids.json") == read_json(alone / "search/front_ids.json")
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kills")
    runs = client.search_runs([experiment.experiment_id], max_results=500)
    children = Counter(run.data.tags["candidate"] for run in runs if "candidate" in run.data.tags)
    assert set(children.values()) == {1}, "a run is doubled"
    assert set(children) == {record["id"] for record in archive.read(journal(folder))} | {
        read_json(folder / "search/undefended.json")["id"]}
    parent, = (run for run in runs if "candidate" not in run.data.tags)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if "candidate" in run.data.tags} == {parent.info.run_id}
