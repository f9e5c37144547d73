"""The watcher of parents: a process that lives, one that ended, and a file that nobody touches any more."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from parapet.processes import parent_watch
from parapet.processes.parent_watch import has_ended, is_alive, is_silent


def test_a_process_has_ended_when_it_was_killed_though_nobody_waited_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = psutil.Process(process.pid)
    is_over = has_ended(process.pid)
    assert is_alive(known) and not is_over()
    process.kill()
    until = time.monotonic() + 10
    while not is_over() and time.monotonic() < until:
        time.sleep(0.01)
    # Nobody has waited for it yet, so that it is still listed, as a zombie.
    assert psutil.pid_exists(process.pid) and is_over() and not is_alive(known)
    process.communicate()
    assert is_over() and has_ended(process.pid)()


def test_only_changes_of_the_heartbeat_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(parent_watch.time, "monotonic", lambda: now[0])
    heart = tmp_path / "heartbeat"
    is_over = is_silent(heart, 5.0)
    now[0] = 104.0
    assert not is_over()
    heart.touch()
    assert not is_over(), "the first sign of life"
    now[0] = 109.0
    assert not is_over()
    now[0] = 109.5
    assert is_over()
