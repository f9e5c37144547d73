"""What `make faults` takes for a fault."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.ends import fault_of
from tests.faults.processes import Case, End
from tests.faults.states import differences, stale, state


@pytest.mark.parametrize(("code", "error", "fault"), [
    (0, "", None),
    (2, "parapet: data cannot be written (Permission denied); give another folder.\n", None),
    (1, "pipelines: the disk is full; free some space.\n", None),
    (None, "", "hangs: no end within 9 seconds"),
    (1, "Traceback (most recent call last):\n  boom\nparapet: sorry.\n", "traceback"),
    (-11, "", "died by signal 11"),
    (3, "parapet: refused.\n", "exit code 3 instead of 0 or 1 or 2"),
    (2, "", "not one sentence, but 0 lines on standard error"),
    (2, "parapet: a.\nparapet: b.\n", "not one sentence, but 2 lines on standard error"),
    (2, "parapet: cut off in the\n", "its sentence has no end"),
    (1, "parapet: an error that is Parapet's own; the crash report is in x.\n", "its sentence says 'crash report'"),
    (2, "parapet: None: No such file; give another.\n", "its sentence says 'None'"),
    (0, "Exception ignored in thread\n", "says on standard error: Exception ignored in thread"),
])
def test_an_end_is_a_fault_or_not(code: int | None, error: str, fault: str | None) -> None:
    assert fault_of(End("parapet x", code, "", error, 9.0)) == fault


def test_a_changed_number_a_lost_file_and_a_left_part_are_seen(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    path = tmp_path / "artifacts/x.json"
    path.write_text(json.dumps({"robust_accuracy": 0.5, "seconds": 3.0}))
    (tmp_path / "artifacts/w.safetensors").write_bytes(b"weights")
    before = state(tmp_path)
    path.write_text(json.dumps({"robust_accuracy": 0.5, "seconds": 4.0}))
    assert differences(before, state(tmp_path)) == []
    path.write_text(json.dumps({"robust_accuracy": 0.6, "seconds": 4.0}))
    assert differences(before, state(tmp_path)) == [
        "artifacts/x.json: /robust_accuracy: 0.5 when undisturbed, 0.6 now"]
    path.unlink()
    (tmp_path / "artifacts/w.safetensors").write_bytes(b"weightS")
    assert len(differences(before, state(tmp_path))) == 2
    assert stale(tmp_path) == []
    (tmp_path / "artifacts/.report.x.part").mkdir()
    assert stale(tmp_path) == ["artifacts/.report.x.part"]


def test_a_process_that_outlives_its_verb_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.processes._GONE_WITHIN", 0.5)
    (tmp_path / "project").mkdir()
    case = Case(tmp_path)

    def leave_a_child() -> None:
        if os.fork() == 0:
            signal.pause()
        os._exit(0)

    assert case.run(["check"], 30, prepare=leave_a_child).code == 0
    left, = case.left_behind()
    assert left.startswith("process ")
    assert case.left_behind() == []
