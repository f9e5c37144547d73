"""The progress line: plain lines with an estimate where there is no terminal, never silent."""

from __future__ import annotations

import io
import re
import time

import pytest

from parapet import progress
from parapet.progress import Progress


def test_plain_lines_say_what_is_done_and_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.05)
    stream = io.StringIO()
    with Progress("search", 4, "candidates", stream) as shown:
        shown.update(0, "starting workers")
        time.sleep(0.12)
        shown.update(2, "epoch 3/9")
        time.sleep(0.12)
        shown.note("generation 1 is done")
        shown.update(4, "")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("search  0/4 candidates")
    assert "generation 1 is done" in lines
    assert any(re.search(r"2/4 candidates  elapsed 0:00, about 0:00 left  epoch 3/9", line) for line in lines)
    assert "4/4 candidates" in lines[-1]


def test_it_is_never_silent_even_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.05)
    stream = io.StringIO()
    with Progress("search", 4, "candidates", stream):
        time.sleep(0.4)
    assert len(stream.getvalue().splitlines()) >= 5
    assert progress.PLAIN_SECONDS < 10


def test_work_that_was_done_before_does_not_flatter_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Progress("search", 10, "candidates", io.StringIO())
    shown.update(5, "resumed")
    clock[0] += 60
    shown.update(6, "one more")
    assert "about 4:00 left" in shown.status()


def test_the_clock_has_hours() -> None:
    assert progress.clock(3725) == "1:02:05" and progress.clock(59) == "0:59"
