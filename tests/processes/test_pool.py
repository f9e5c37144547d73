"""Workers: results, deaths, replacements, time limits, and no orphan."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from parapet.errors import InputError, WorkError
from parapet.processes import deaths
from parapet.processes.pool import Task, Workers

WORK = "tests.processes.workloads"


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


def test_a_death_is_seen_while_what_the_worker_started_still_lives(tmp_path: Path) -> None:
    marker, begun = tmp_path / "pid", time.monotonic()
    with Workers(["cpu"], attempts=1) as workers:
        (_, outcome), = workers.run(_tasks("leave_a_child_and_die", {"marker": str(marker)}))
    child = int(marker.read_text())
    os.kill(child, 0)  # it lives
    os.kill(child, signal.SIGKILL)
    assert outcome.result is None and "died by SIGKILL" in outcome.reason
    assert time.monotonic() - begun < 300


def test_a_reason_is_cut_after_passwords_were_taken_out() -> None:
    """A cut before the @ would leave a password that nothing marks as one."""
    with Workers(["cpu"], attempts=1) as workers:
        (_, outcome), = workers.run(_tasks("say", {"text": f"at postgresql://alice:{'hunter2' * 50}@db/m"}))
    assert outcome.result is None and outcome.reason is not None
    assert "hunter2" not in outcome.reason and "postgresql://db/m" in outcome.reason


def test_the_time_of_every_attempt_is_counted(tmp_path: Path) -> None:
    with Workers(["cpu"], attempts=3) as workers:
        (_, outcome), = workers.run(_tasks("sleep_and_die_until", {"marker": str(tmp_path / "count"), "times": 2,
                                                                   "seconds": 0.4}))
    assert outcome.result == {"deaths": 2} and outcome.seconds > 1.1


def test_a_task_that_always_kills_its_worker_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    tasks = _tasks("die_until", {"marker": str(tmp_path / "count"), "times": 99})
    with Workers(["cpu"], attempts=2) as workers:
        (_, outcome), = workers.run(tasks)
        assert outcome.result is None
        assert (outcome.reason, outcome.lost) == (
            "the process of die_until-0 died by SIGKILL (the kernel does so where memory runs out), in 2 attempts, the "
            "last with the machine to itself; it said nothing on its standard error", "out of memory")
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


def test_a_death_by_a_signal_is_one_sentence() -> None:
    said = "first\ncorrupted size vs. prev_size\n"
    task = Task("0123456789ab", f"{WORK}:crash", {"number": signal.SIGSEGV, "said": said}, step="measuring",
                about="candidate 0123456789ab (residual 4x2 silu)", candidate="0123456789ab",
                advice="to leave it out, take residual out of search.space.backbone")
    with Workers(["cpu"], attempts=1) as workers:
        (_, outcome), = workers.run([task])
    where, line = Path(__file__).with_name("workloads.py"), _line_of("os.kill(os.getpid(), number)")
    assert outcome.reason == (
        "training of candidate 0123456789ab (residual 4x2 silu) died by SIGSEGV; the last lines of its standard error: "
        f'first | corrupted size vs. prev_size | Fatal Python error: Segmentation fault | File "{where}", line {line} '
        "in crash; to leave it out, take residual out of search.space.backbone")
    assert outcome.lost == "SIGSEGV" and "most recent call first" in outcome.trace


def test_native_code_that_crashes_is_told_with_its_line() -> None:
    with Workers(["cpu"], attempts=1) as workers:
        (_, outcome), = workers.run(_tasks("crash_in_native_code", {}))
    assert "died by SIGSEGV; the last lines of its standard error: about to read | Fatal Python error" in outcome.reason
    assert "in string_at" in outcome.reason and "\n" not in outcome.reason


def test_what_a_worker_says_is_kept_to_a_tail_and_never_stops_it(capfd: pytest.CaptureFixture) -> None:
    with Workers(["cpu"], attempts=1) as workers:
        (_, outcome), = workers.run(_tasks("flood", {}))
        (_, after), = workers.run(_tasks("double", {"value": 1}))
    assert "died by SIGABRT" in outcome.reason and "the end | Fatal Python error: Aborted" in outcome.reason
    assert len(outcome.trace) <= 16_384 and len(outcome.reason) < 600 and after.result["value"] == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["torch", "python"])
def test_out_of_memory_is_tried_again_in_a_fresh_worker(tmp_path: Path, kind: str) -> None:
    arguments = {"kind": kind, "marker": str(tmp_path / "count"), "times": 1}
    with Workers(["cpu"], attempts=2) as workers:
        (_, first), = workers.run(_tasks("double", {"value": 1}))
        (_, outcome), = workers.run(_tasks("lack_memory", arguments))
        assert outcome.reason is None and outcome.result["pid"] != first.result["pid"]
        (_, outcome), = workers.run(_tasks("lack_memory", {**arguments, "times": 99}))
        (_, after), = workers.run(_tasks("double", {"value": 1}))
    assert outcome.lost == "out of memory" and outcome.result is None and "Traceback" in outcome.trace
    assert outcome.reason.startswith("the process of lack_memory-0 ran out of memory, in 2 attempts, the last with the "
                                     "machine to itself; ")
    assert after.result["value"] == 2


def test_a_second_attempt_has_the_machine_to_itself(tmp_path: Path) -> None:
    """After all others, one by one, each in a process of its own with no other worker beside it."""
    marker = tmp_path / "times"
    tasks = _tasks("note_neighbours", *({"marker": str(marker), "name": str(place), "seconds": 0.2,
                                         "times": 1 if place in (0, 2) else 0} for place in range(6)))
    with Workers(["cpu", "cpu", "cpu"], attempts=2) as workers:
        found = dict(workers.run(tasks))
        (_, after), = workers.run(_tasks("double", {"value": 1}))
    assert all(outcome.reason is None for outcome in found.values()) and after.result["value"] == 2
    rows = [json.loads(line) for line in marker.read_text().splitlines()]
    again = [row for row in rows if row[1] == 2]
    assert {row[0] for row in again} == {"0", "2"} and any(row[5] for row in rows if row[1] == 1)
    for _, _, pid, begun, ended, beside in again:
        assert beside == []
        assert all(other[4] <= begun or other[3] >= ended for other in rows if other[2] != pid)
    fresh = {row[2] for row in again}
    assert len(fresh) == 2 and not fresh & {row[2] for row in rows if row[1] == 1}


def test_a_worker_that_met_an_unexpected_error_is_not_used_again() -> None:
    """On a card that has failed every later call fails too."""
    with Workers(["cpu"]) as workers:
        (_, before), = workers.run(_tasks("double", {"value": 4}))
        (_, failed), = workers.run(_tasks("raise_value_error", {}))
        (_, after), = workers.run(_tasks("double", {"value": 4}))
    assert failed.lost == "ValueError" and before.result["pid"] != after.result["pid"]


def test_a_worker_that_dies_while_idle_costs_nobody_an_attempt() -> None:
    with Workers(["cpu"], attempts=1) as workers:
        (_, before), = workers.run(_tasks("double", {"value": 4}))
        victim = psutil.Process(before.result["pid"])
        victim.kill()
        _wait_for(lambda: [1] if victim.status() == psutil.STATUS_ZOMBIE else [], 1)
        (_, after), = workers.run(_tasks("double", {"value": 4}))
    assert after.result["value"] == 8


def test_what_happens_in_a_worker_is_told_with_its_step_and_candidate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="parapet")
    task = Task("a", f"{WORK}:crash", {"number": signal.SIGABRT, "said": "malloc(): invalid size\n"}, candidate="abc")
    with Workers(["cpu"], attempts=2) as workers:
        list(workers.run([task]))
    told = [(record.levelname, record.step, record.candidate, record.getMessage()) for record in caplog.records]
    assert told.count(("INFO", "training", "abc", "training begins")) == 2
    [(step, text)] = [row[1::2] for row in told if row[0] == "WARNING"]
    assert step == "training" and text.endswith("it is tried again with the machine to itself")
    [text] = [row[3] for row in told if row[0] == "ERROR"]
    assert text.startswith("training of a died by SIGABRT, in 2 attempts, the last with the machine to itself; ")
    assert any(level == "DEBUG" and "malloc(): invalid size" in text for level, _, _, text in told)


@pytest.mark.parametrize(("text", "words"), [
    ("", ""), ("\n \n", ""), ("a\nb\nc\nd\n", "b | c | d"), ("x" * 400, "…" + "x" * 299),
    ("free(): bad\nFatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n"
     "  File \"a.py\", line 3 in f\n  File \"b.py\", line 4 in g\n\nExtension modules: numpy (total: 1)\n",
     'free(): bad | Fatal Python error: Aborted | File "a.py", line 3 in f')])
def test_the_last_words_are_the_ones_that_matter(text: str, words: str) -> None:
    assert deaths.last_words(text) == words


def test_a_task_over_its_time_is_ended() -> None:
    with Workers(["cpu"], timeout=1.0) as workers:
        found = dict(workers.run([*_tasks("sleep", {"seconds": 60}), *_tasks("double", {"value": 1})]))
    assert (found[0].reason, found[0].lost) == ("it took longer than 1 seconds", "time")
    assert found[1].result["value"] == 2


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = ("from parapet.processes.pool import Task, Workers\n"
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


def _line_of(text: str) -> int:
    lines = Path(__file__).with_name("workloads.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def _wait_for(look, count: int) -> list:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = look()
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError("the workers did not start")
