"""What a task of the pipeline begins with: few threads, and events for whoever asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parapet import cores
from parapet.cli import pod

COMPONENTS = Path(__file__).parents[2] / "components"


def begun(work: str = "print('work')", **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that begins as a task does."""
    return subprocess.run([sys.executable, "-c", f"from parapet.cli import pod; pod.begin('training'); {work}"],
                          env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_events_are_json_lines_where_they_are_asked_for() -> None:
    silent, told, debugged = begun(), begun(PARAPET_LOG="json"), begun(PARAPET_DEBUG="1")
    assert {done.stdout for done in (silent, told, debugged)} == {"work\n"}
    assert silent.stderr == ""
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [("begun", "training"), ("done", "training")]
    assert debugged.stderr.splitlines() == ["debug  training: begun", "debug  training: done"]


def test_a_task_that_fails_is_not_done() -> None:
    told = begun("raise ValueError('no room at http://alice:hunter2@host')", PARAPET_LOG="json")
    lines = [json.loads(line) for line in told.stderr.splitlines() if line.startswith("{")]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "begun"), ("error", "ValueError: no room at http://host")]
    assert told.returncode == 1 and "Traceback" in told.stderr


@pytest.mark.parametrize("environment", [{}, {"PARAPET_LOG": "json"}, {"PARAPET_DEBUG": "1"}])
def test_the_traceback_of_a_task_holds_no_secret(environment: dict[str, str]) -> None:
    told = begun("""
try:
    raise ValueError('http://alice:hunter2@host is away')
except ValueError as error:
    raise RuntimeError('token: hunter2') from error""", **environment)
    assert told.returncode == 1 and "hunter2" not in told.stdout + told.stderr
    shown = told.stderr.splitlines()
    assert "ValueError: http://host is away" in shown and shown[-1].startswith("RuntimeError: token: ")
    assert any(line.startswith("The above exception was the direct cause") for line in shown)


def test_a_log_that_is_not_known_is_refused() -> None:
    done = begun(PARAPET_LOG="xml")
    assert done.returncode == 1 and "PARAPET_LOG is 'xml'; allowed is json, or leave it out." in done.stderr


def test_no_more_threads_than_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cpu_count", lambda root=None: 1)
    monkeypatch.setattr(cores, "_available", lambda: 64)
    monkeypatch.setattr("os.environ", {})
    pod.begin("training")
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("path", sorted(COMPONENTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_component_begins_with_it(path: Path) -> None:
    """Before anything of ours loads numpy or torch, which count cores as they are loaded."""
    text = path.read_text(encoding="utf-8")
    if "@dsl.component" in text:
        first = next(line.strip() for line in text.splitlines() if line.startswith("    from parapet"))
        assert first == "from parapet.cli import pod"
        assert text.index(f'    pod.begin("{path.stem}")\n') < text.index("    from parapet.", text.index(first) + 1)
