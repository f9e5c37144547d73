"""Several processes that train one candidate: the step as a user of it sees it, and what happens when one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from parapet import cli
from parapet.config import Params, parse
from parapet.data.info import read_info
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.models import load
from parapet.processes import launcher
from parapet.processes.training_request import request
from parapet.search.session import proposal_of
from parapet.steps import supervised, training
from parapet.store import results
from parapet.store.records import Proposal, Request
from tests.steps.tiny import TINY

GENOME = Genome(backbone="plain", width=4, depth=1, steps=2, learning_rate=0.1)
ROOT = Path(__file__).parents[2]


def settings(**changes: Any) -> Params:
    return parse(Params, {**TINY, "device": "cpu", "training": {**TINY["training"], "gpus": 2, **changes}})


def asked(dataset: Path, params: Params, genome: Genome = GENOME) -> Proposal:
    full = Fidelity.ladder((), params.training.epochs)[-1]
    return proposal_of(Request(genome, full), params, read_info(dataset), "cpu", 0)


def started(*, below: int | None = None) -> list[psutil.Process]:
    """The processes that train together, of all on this machine or of those that `below` started."""
    found = psutil.Process(below).children(recursive=True) if below else psutil.process_iter()
    kept = []
    for process in found:
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "parapet.processes.launcher" in words and "torch.distributed.run" not in words:
            kept.append(process)
    return kept


def test_two_processes_leave_what_one_leaves(digits_folder: Path, tmp_path: Path) -> None:
    params, told = settings(), []
    proposal = asked(digits_folder, params)
    found = training.run(params, proposal, digits_folder, tmp_path / "out",
                         progress=lambda text, share: told.append((text, share)))
    assert (found["status"], found["id"], len(found["curves"])) == ("done", proposal.id, 3)
    assert found == read_json(tmp_path / "out" / results.TRAINING)
    assert load(tmp_path / "out" / results.WEIGHTS).genome == GENOME.canonical()
    assert [text for text, _ in told] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"] and told[-1][1] == 1
    assert not (tmp_path / "out" / results.CHECKPOINT).exists()
    # Asked again it is there, and its key tells it from what one process makes.
    assert training.run(params, proposal, digits_folder, tmp_path / "out") == found
    one = asked(digits_folder, settings(gpus=1))
    assert one.training_key != proposal.training_key
    assert one.training_key == asked(digits_folder, parse(Params, {**TINY, "device": "cpu"})).training_key


def test_numbers_that_went_bad_are_a_result_with_its_reason(digits_folder: Path, tmp_path: Path) -> None:
    params = settings(gradient_clip=0.0)
    wild = Genome(backbone="plain", width=4, depth=1, steps=2, learning_rate=10.0, weight_decay=1.0)
    found = training.run(params, asked(digits_folder, params, wild), digits_folder, tmp_path / "out")
    assert found["status"] == "infeasible" and "the loss was not finite " in found["reason"]


def test_a_sentence_for_the_user_comes_through_as_it_is(digits_folder: Path, tmp_path: Path) -> None:
    params = settings()
    proposal = replace(asked(digits_folder, params), fingerprint="f" * 64)
    with pytest.raises(InputError, match=r"holds other data \(fingerprint .* than this search began with"):
        training.run(params, proposal, digits_folder, tmp_path / "out")


def test_a_team_of_another_size_than_is_asked_for_is_refused(digits_folder: Path, tmp_path: Path) -> None:
    params = settings(gpus=4)
    asked_for = request(params, asked(digits_folder, params).to_json(), digits_folder, tmp_path / "out", device="cpu",
                        start=None, checkpoints=None)
    with pytest.raises(InputError, match="training.gpus is 4, and 2 processes were started to train together"):
        launcher.launch(asked_for, 2, lambda text, share: None)


def crash(marks: Path, times: int) -> threading.Thread:
    """Kill one of two processes that train below this one, as soon as there are two, so many times over."""
    def kill() -> None:
        seen: set[int] = set()
        until = time.monotonic() + 120
        while len(list(marks.iterdir())) < times and time.monotonic() < until:
            workers = [worker for worker in started(below=os.getpid()) if worker.pid not in seen]
            if len(workers) == 2 and all(time.time() - worker.create_time() > 2 for worker in workers):
                seen |= {worker.pid for worker in workers}
                workers[1].kill()
                (marks / str(workers[1].pid)).touch()
            time.sleep(0.2)
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_process_that_crashes_is_a_crash_of_the_child_and_not_the_end_of_the_run(
        digits_folder: Path, tmp_path: Path) -> None:
    params = settings(epochs=60)
    proposal, marks = asked(digits_folder, params).to_json(), tmp_path / "marks"
    marks.mkdir()
    thread = crash(marks, 1)
    found = supervised.training(params, proposal, digits_folder, tmp_path / "out")
    thread.join()
    assert found["status"] == "done" and len(found["curves"]) == 60 and len(list(marks.iterdir())) == 1

    params = settings(epochs=2000)
    thread = crash(marks, 1 + params.search.attempts)
    found = supervised.training(params, asked(digits_folder, params).to_json(), digits_folder, tmp_path / "other")
    thread.join()
    assert found["status"] == "infeasible" and "it was ended by signal 9" in found["reason"]
    assert read_json(tmp_path / "other" / results.TRAINING) == found


def begun(digits_folder: Path, tmp_path: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A process that has two train for a long time, and the two, once they have left a checkpoint."""
    params = settings(epochs=2000)
    code = ("import json, sys; from pathlib import Path; from parapet.config import Params, parse; "
            "from parapet.steps import training; from parapet.store.records import Proposal; "
            "job = json.loads(sys.argv[1]); proposal = Proposal.from_json(job['proposal']); "
            "training.run(parse(Params, job['params']), proposal, Path(job['data']), Path(job['out']))")
    job = {"params": {**TINY, "device": "cpu", "training": {**TINY["training"], "gpus": 2, "epochs": 2000}},
           "proposal": asked(digits_folder, params).to_json(), "data": str(digits_folder), "out": str(tmp_path / "out")}
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(job)], cwd=ROOT, stderr=subprocess.PIPE,
                               text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "out" / results.CHECKPOINT).exists() and time.monotonic() < until:
        time.sleep(0.1)
    workers = started(below=process.pid)
    assert len(workers) == 2
    return process, workers


def test_where_one_is_killed_the_other_ends_too_and_the_signal_is_told(digits_folder: Path, tmp_path: Path) -> None:
    process, workers = begun(digits_folder, tmp_path)
    os.kill(workers[1].pid, signal.SIGKILL)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "one of the 2 processes that trained together died" in said and "signal 9" in said
    assert not any(worker.is_running() for worker in workers)
    assert (tmp_path / "out" / results.CHECKPOINT).exists()


def test_nobody_trains_for_somebody_who_gives_no_sign_of_life(tmp_path: Path) -> None:
    code = ("import sys, time; from pathlib import Path; "
            "from parapet.processes.parent_watch import end_when, is_silent; "
            "end_when(is_silent(Path(sys.argv[1]), 1.0)); time.sleep(60)")
    heart = tmp_path / "heartbeat"
    heart.touch()
    process = subprocess.Popen([sys.executable, "-c", code, str(heart)], cwd=ROOT)
    for _ in range(20):
        time.sleep(0.2)
        os.utime(heart, (0, time.monotonic()))
    assert process.poll() is None
    assert process.wait(15) == 1


def test_they_do_not_outlive_the_one_that_started_them(digits_folder: Path, tmp_path: Path) -> None:
    process, workers = begun(digits_folder, tmp_path)
    process.kill()
    process.communicate(timeout=30)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == 2 and not alive


def test_a_recipe_trains_on_one_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--recipe", "digits", "--set", "training.gpus=2"]) == 2
    assert "training.gpus is 2, and `parapet train` trains on one device" in capsys.readouterr().err
