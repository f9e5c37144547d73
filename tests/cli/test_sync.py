"""`parapet sync`: what could not be sent is a failure, in one sentence."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from parapet import cli
from tests.tracking.tracked_story import Story


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Six events that wait in the outbox of a working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("tracking: {experiment: faults}\n")
    (tmp_path / ".parapet").mkdir()
    story = Story(tmp_path / ".parapet")
    story.tell()
    return story


def test_an_mlflow_that_is_away_is_failed_work(story: Story, monkeypatch, capsys) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert cli.main(["sync"]) == 1
    assert capsys.readouterr().err == (f"parapet: 0 sent, 6 waiting: MLflow at {uri} is away: connection refused; run "
                                       "`parapet sync` again when that is mended.\n")
    assert story.outbox.pending() == 6


def test_a_database_that_may_not_be_written_is_wrong_input(story: Story, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr("os.access", lambda place, mode: False)
    assert cli.main(["sync"]) == 2
    assert capsys.readouterr().err.startswith(f"parapet: {tmp_path} cannot be written, and MLflow's database ")


def test_a_full_disk_is_failed_work(story: Story, monkeypatch, capsys) -> None:
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device", "mlruns/x")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr("parapet.tracking.mlflow_tracker._Flush._send", full)
    assert cli.main(["sync"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith("run `parapet sync` again when that is mended.\n")
    assert "No space left on device (mlruns/x); run" in said
