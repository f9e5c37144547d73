"""PARAPET_LOG=json: a line an event with time, step and candidate; what people read stays as it is."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from parapet import cli, log
from parapet.errors import WorkError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PARAPET_DEBUG", "PARAPET_LOG", "PARAPET_LOG_FILE"):
        monkeypatch.delenv(name, raising=False)


def _work() -> None:
    print("for people")
    with log.span("search"):
        log.event("infeasible at http://alice:secret@host", step="search", candidate="0123456789ab", generation=3,
                  token="hunter2hunter2")
    log.event("a batch", step="search", level=logging.DEBUG)
    raise WorkError("it failed.")


def test_a_line_an_event_on_standard_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("PARAPET_LOG", "json")
    assert cli.guarded("parapet", _work, step="run") == 1
    out, err = capsys.readouterr()
    assert out == "for people\n"
    *lines, sentence, last = err.splitlines()
    assert sentence == "parapet: it failed."
    events = [json.loads(line) for line in [*lines, last]]
    assert [(event["level"], event["step"], event["candidate"], event["event"]) for event in events] == [
        ("info", "run", None, "begun"), ("info", "search", None, "begun"),
        ("info", "search", "0123456789ab", "infeasible at http://host"), ("info", "search", None, "done"),
        ("error", "run", None, "it failed.")]
    for event in events:
        assert datetime.fromisoformat(event["time"]).utcoffset().total_seconds() == 0 and event["pid"] == os.getpid()
    assert events[2]["generation"] == 3 and "hunter2" not in err and events[4]["exit_code"] == 1


def test_a_file_takes_the_lines_and_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("PARAPET_LOG", "json")
    monkeypatch.setenv("PARAPET_LOG_FILE", str(tmp_path / "events.jsonl"))
    for _ in range(2):
        assert cli.guarded("parapet", _work, step="run") == 1
    assert capsys.readouterr() == ("for people\n" * 2, "parapet: it failed.\n" * 2)
    assert len([json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]) == 10


def test_without_it_people_read_what_they_always_did(capsys: pytest.CaptureFixture) -> None:
    assert cli.guarded("parapet", _work, step="run") == 1
    assert capsys.readouterr() == ("for people\n", "parapet: it failed.\n")
    assert logging.getLogger(log.NAME).handlers == [] and logging.getLogger(log.NAME).propagate


def test_debug_shows_events_too(capsys: pytest.CaptureFixture) -> None:
    assert cli.guarded("parapet", _work, step="run", debug=True) == 1
    err = capsys.readouterr().err
    assert "debug  search 0123456789ab: infeasible at http://host\n" in err and "debug  search: a batch\n" in err
    assert "alice" not in err


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"PARAPET_LOG": "xml"}, "PARAPET_LOG is 'xml'; allowed is json, or leave it out."),
    ({"PARAPET_LOG_FILE": "x"}, "PARAPET_LOG_FILE is given, and PARAPET_LOG is not; set PARAPET_LOG=json too."),
    ({"PARAPET_LOG": "json", "PARAPET_LOG_FILE": "/nowhere/x"}, "PARAPET_LOG_FILE is /nowhere/x, which cannot be "
     "written (No such file or directory); name another file.")])
def test_what_cannot_be_meant_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
                                      settings: dict[str, str], sentence: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert cli.guarded("parapet", _work) == 2
    assert capsys.readouterr() == ("", f"parapet: {sentence}\n")


def test_nothing_is_said_twice_where_nobody_listens() -> None:
    code = "from parapet import log; import logging; log.event('alice:SECRET@host', level=logging.ERROR)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_a_log_that_cannot_be_written_any_more_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch,
                                                                       capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("PARAPET_LOG", "json")
    monkeypatch.setenv("PARAPET_LOG_FILE", "/dev/full")
    assert cli.guarded("parapet", lambda: print("done"), step="run") == 0
    assert capsys.readouterr() == ("done\n", "")
