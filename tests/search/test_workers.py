"""Workers: results, deaths, replacements, time limits, and no orphan."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from parapet.errors import InputError, WorkError
from parapet.search.workers import Task, Workers

WORK = "tests.search.workloads"


def _tasks(function: str, *arguments: dict) -> list[Task]:
    return [Task(f"{function}-{place}", f"{WORK}:{function}", values) for place, values in enumerate(arguments)]


def test_results_come_back_with_their_place_and_workers_are_reused() -> None:
    told: list[tuple[int, str, float]] = []
    with Workers(["cpu", "cpu"]) as workers:
        tasks = _tasks("double", *({"value": value} for value in range(6)))
        found = dict(workers.run(tasks, lambda *progress: told.append(progress)))
    assert {place: outcome.result["value"] for place, outcome in found.items()} == {n: 2 * n for n in range(6)}
    assert len({outcome.result["pid"] for outcome in found.values()}) <= 2
    assert sorted(told) == [(place, "doubling", 0.5) for place in range(6)]


def test_each_worker_has_its_device() -> None:
    with Workers(["cuda:0", "cuda:1"]) as workers:
        found = [outcome.result for _, outcome in workers.run(_tasks("double", *({"value": n} for n in range(8))))]
    assert {result["device"] for result in found} <= {"cuda:0", "cuda:1"}
    assert len({(result["device"], result["pid"]) for result in found}) == len({result["pid"] for result in found})


def test_a_worker_that_is_killed_is_replaced_and_its_task_tried_again(tmp_path: Path) -> None:
    with Workers(["cpu"], attempts=3) as workers:
        (_, outcome), = workers.run(_tasks("die_until", {"marker": str(tmp_path / "count"), "times": 2}))
    assert outcome.result == {"deaths": 2}


def test_the_time_of_every_attempt_is_counted(tmp_path: Path) -> None:
    with Workers(["cpu"], attempts=3) as workers:
        (_, outcome), = workers.run(_tasks("sleep_and_die_until", {"marker": str(tmp_path / "count"), "times": 2,
                                                                   "seconds": 0.4}))
    assert outcome.result == {"deaths": 2} and outcome.seconds > 1.2


def test_a_task_that_always_kills_its_worker_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    tasks = _tasks("die_until", {"marker": str(tmp_path / "count"), "times": 99})
    with Workers(["cpu"], attempts=2) as workers:
        (_, outcome), = workers.run(tasks)
        assert outcome.result is None
        assert outcome.reason == "the process died (SIGKILL; out of memory?), in 2 attempts"
        (_, again), = workers.run(_tasks("double", {"value": 1}))
        assert again.result["value"] == 2


def test_an_exception_is_a_failure_and_the_rest_goes_on() -> None:
    with Workers(["cpu"]) as workers:
        found = dict(workers.run([*_tasks("raise_value_error", {}), *_tasks("double", {"value": 4})]))
    assert found[0].reason == "ValueError: numbers gone bad" and "raise_value_error" in found[0].trace
    assert found[1].result["value"] == 8


def test_what_concerns_every_task_is_raised() -> None:
    with Workers(["cpu"]) as workers, pytest.raises(InputError, match="the data set is missing"):
        list(workers.run(_tasks("raise_input_error", {})))
    with Workers(["cpu"]) as workers, pytest.raises(WorkError, match="the disk is full"):
        list(workers.run(_tasks("fill_the_disk", {})))


def test_a_folder_that_may_not_be_written_concerns_every_task() -> None:
    with Workers(["cpu"]) as workers, pytest.raises(InputError, match=r"/somewhere/file cannot be written \(Perm"):
        list(workers.run(_tasks("be_locked_out", {})))


def test_a_task_over_its_time_is_ended() -> None:
    with Workers(["cpu"], timeout=1.0) as workers:
        found = dict(workers.run([*_tasks("sleep", {"seconds": 60}), *_tasks("double", {"value": 1})]))
    assert found[0].reason == "it took longer than 1 seconds"
    assert found[1].result["value"] == 2


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = ("from parapet.search.workers import Task, Workers\n"
            "with Workers(['cpu', 'cpu']) as workers:\n"
            f"    list(workers.run([Task('a', '{WORK}:sleep', {{'seconds': 600}})] * 2))\n")
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        children = _wait_for(lambda: psutil.Process(parent.pid).children(), 2)
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_leaving_the_context_ends_every_process() -> None:
    before = set(psutil.Process().children())
    with Workers(["cpu"]) as workers:
        list(workers.run(_tasks("double", {"value": 1})))
        children = set(psutil.Process().children()) - before
        assert children
    assert all(not child.is_running() for child in children)


def _wait_for(look, count: int) -> list:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = look()
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError("the workers did not start")
