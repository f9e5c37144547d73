"""`python -m pipelines local`: refused input, failures explained, and nothing left behind when it is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from parapet.errors import InputError, WorkError
from pipelines import local
from pipelines.__main__ import main

ROOT = Path(__file__).parents[2]
PARAMS = Path(__file__).parent / "same_front_params.yaml"


def params_with(folder: Path, text: str) -> str:
    (folder / "params.yaml").write_text(text)
    return str(folder / "params.yaml")


def test_too_many_generations_are_refused_before_anything_runs(tmp_path, capsys):
    wrong = params_with(tmp_path, "search: {generations: 9}")
    assert main(["local", "--params", wrong, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("pipelines: search.generations is 9, but a compiled pipeline holds at")
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_there_is_refused_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PARAPET_DATA", raising=False)
    wrong = params_with(tmp_path, f"data: {{name: mnist, root: {tmp_path}}}\ndevice: cpu")
    assert main(["local", "--params", wrong, "--out", str(tmp_path / "out")]) == 2
    assert "mnist" in capsys.readouterr().err
    assert not (tmp_path / "out" / ".kfp").exists()


@pytest.mark.parametrize("name", ["search/thesis.txt", "evaluation/thesis.txt", "onnx/thesis.onnx",
                                  "report/thesis.html", "plots/thesis.txt", ".kfp/thesis.txt", "front.json",
                                  "metrics.json"])
def test_a_file_of_the_users_where_its_results_go_is_told_before_anything_runs(tmp_path, capsys, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert main(["local", "--params", str(PARAMS), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and (
        f"{path} is not from this command" in told or f"{path.parent} holds files that are not from" in told)
    assert path.read_text() == "mine" and not (tmp_path / "out" / ".kfp/pipeline.log").exists()


def test_a_failure_is_told_in_the_words_of_the_task_that_failed(tmp_path):
    log = tmp_path / "pipeline.log"
    log.write_text("    Traceback (most recent call last):\n        parapet.errors.InputError: threat.eps is wrong.\n\n"
                   "RuntimeError: Pipeline finished with status FAILURE.\n")
    error = local._failure(log)
    assert (type(error), str(error)) == (InputError, "threat.eps is wrong.")
    log.write_text("    MemoryError\n")
    error = local._failure(log)
    assert (type(error), str(error)) == (WorkError, f"a task of the pipeline failed; {log} tells which, and why.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
def test_killing_it_leaves_no_task_behind(tmp_path, number):
    command = [sys.executable, "-m", "pipelines", "local", "--params", str(PARAMS), "--out", str(tmp_path / "out")]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        started = wait_for(lambda: tasks_of(tmp_path), 60)
        group = [process for found in started for process in [found, *found.children(recursive=True)]]
        driver.send_signal(number)
        said = driver.communicate(timeout=30)[1]
    finally:
        driver.kill()
    assert started
    assert driver.returncode == (130 if number == signal.SIGTERM else -9)
    assert ("interrupted; every task was ended" in said) == (number == signal.SIGTERM)
    assert wait_for(lambda: not any(is_alive(process) for process in group) and not tasks_of(tmp_path), 10)


def tasks_of(folder: Path) -> list[psutil.Process]:
    """The processes of tasks that write into `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "kfp.dsl.executor_main" in " ".join(words) and str(folder) in " ".join(words) and is_alive(process):
            found.append(process)
    return found


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds: float):
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result
