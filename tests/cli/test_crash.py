"""A fault of Parapet: one sentence, and one file without secrets that a user can send; --debug shows what is behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines.__main__ as pipelines_main
from parapet import cli, log
from parapet.cli import crash, verbs
from parapet.errors import Fault, InputError

SECRETS = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI0K7MDENG", "MLFLOW_TRACKING_PASSWORD": "correct horse",
           "MLFLOW_TRACKING_URI": "http://alice:Tr0ub4dor@mlflow.example", "HF_TOKEN": "plain-looking-words",
           "DB_URL": "postgresql://bob:p%40ssw0rd@db/x"}
HIDDEN = ("wJalrXUtnFEMI0K7MDENG", "correct horse", "Tr0ub4dor", "plain-looking-words", "p%40ssw0rd", "p@ssw0rd",
          "s3cr3t-argument")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a params.yaml, and secrets in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PARAPET_DEBUG", "PARAPET_LOG", "PARAPET_LOG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "params.yaml").write_text("seed: 11  # password: s3cr3t-argument\n")
    return tmp_path


def _bug(options: object) -> None:
    log.event("about to fail as postgresql://bob:p%40ssw0rd@db/x", step="check", candidate="0123456789ab")
    wJalr = os.environ["AWS_SECRET_ACCESS_KEY"]
    raise ZeroDivisionError(f"at http://alice:Tr0ub4dor@mlflow.example with {wJalr}, correct horse and "
                            "plain-looking-words\nand a second line")


def test_a_planted_bug_is_one_sentence_and_one_file(here: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(verbs, "check", _bug)
    assert cli.main(["check", "--out", "http://carol:s3cr3t-argument@host/x"]) == 1
    [report] = here.glob("parapet-crash-*.txt")
    told = capsys.readouterr().err
    assert told.startswith("parapet: this is a fault of Parapet (ZeroDivisionError: at http://mlflow.example with ")
    assert told.endswith(f"a crash report was written to {report}; please send it.\n") and told.count("\n") == 1
    text = report.read_text()
    for section in ("command", "traceback", "machine", "versions", "parameters", "last events"):
        assert f"== {section} ==" in text, section
    assert "== command ==\nparapet\n  check\n  --out\n  http://host/x" in text
    assert 'in _bug\n    raise ZeroDivisionError(' in text and "and a second line" in text
    assert "torch 2." in text and "seed: 11" in text and '"candidate": "0123456789ab"' in text and "Python 3." in text
    for secret in HIDDEN:
        assert secret not in text, secret
    assert "HF_TOKEN" not in text


@pytest.mark.parametrize("program", ["parapet", "pipelines"])
@pytest.mark.parametrize("how", ["option", "option before the verb", "environment"])
def test_debug_shows_the_traceback_behind_a_sentence(here: Path, monkeypatch: pytest.MonkeyPatch, how: str,
                                                     program: str, capsys: pytest.CaptureFixture) -> None:
    main, verb = (cli.main, "check") if program == "parapet" else (pipelines_main.main, "compile")
    line = [verb, "--params", "nowhere.yaml"]
    assert main(line) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and sentence.startswith(f"{program}: nowhere.yaml does not exist")
    if how == "environment":
        monkeypatch.setenv("PARAPET_DEBUG", "1")
    asked = {"option": [*line, "--debug"], "option before the verb": ["--debug", *line], "environment": line}
    assert main(asked[how]) == 2
    told = capsys.readouterr().err
    assert sentence in told and "Traceback (most recent call last):" in told and "InputError: nowhere.yaml" in told
    # What the sentence was raised `from None` for is shown too.
    assert "FileNotFoundError: [Errno 2] No such file or directory" in told


def test_every_verb_takes_debug(here: Path, capsys: pytest.CaptureFixture) -> None:
    for program in ([sys.executable, "-m", "parapet.cli"], [sys.executable, "-m", "pipelines"]):
        names = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True,
                               cwd=Path(__file__).parents[2]).stdout
        assert "--debug" in names


@pytest.mark.parametrize("arguments", [
    ["check"], ["run", "--out", "x"], ["data_prep"], ["search"], ["full_evaluation"], ["front"], ["report"], ["select"],
    ["promote"], ["promotion"], ["rollback"], ["serve", "champion"], ["sync"], ["train"], ["archive", "list"],
    ["attack", "--model", "m", "--data", "d", "--eps", "0.1"], ["data", "fetch", "digits"]], ids=lambda words: words[0])
def test_the_option_is_read_after_any_verb(arguments: list[str]) -> None:
    from parapet.cli.parser import parse_arguments

    assert parse_arguments([*arguments, "--debug"]).debug and parse_arguments(["--debug", *arguments]).debug
    assert not parse_arguments(arguments).debug


def test_what_a_child_left_is_in_the_report(here: Path, capsys: pytest.CaptureFixture) -> None:
    def work() -> None:
        raise Fault("KeyError: 'x'", "Traceback of the child\nKeyError: 'x'")
    assert cli.guarded("parapet", work, arguments=["train"]) == 1
    assert "this is a fault of Parapet (KeyError: 'x'); a crash report was" in capsys.readouterr().err
    [report] = here.glob("parapet-crash-*.txt")
    assert "== traceback of the child process ==\nTraceback of the child\nKeyError: 'x'" in report.read_text()
    assert cli.guarded("parapet", work, arguments=["train"], debug=True) == 1
    assert "in the child process:\nTraceback of the child" in capsys.readouterr().err


def test_where_no_report_can_be_written_that_is_told(here: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(crash, "write", lambda *rest: None)

    def work() -> None:
        raise ZeroDivisionError("division by zero.")
    assert cli.guarded("parapet", work, arguments=[]) == 1
    assert capsys.readouterr().err == ("parapet: this is a fault of Parapet (ZeroDivisionError: division by zero); and "
                                       "no crash report could be written; please send what --debug shows.\n")


def test_a_folder_that_cannot_be_written_sends_the_report_elsewhere(here: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "elsewhere").mkdir()
    monkeypatch.setattr(crash.tempfile, "gettempdir", lambda: str(here / "elsewhere"))
    monkeypatch.setattr(crash.Path, "cwd", lambda: here / "gone")
    path = crash.write(ZeroDivisionError(), "parapet", [], {}, None, [])
    assert path.parent == here / "elsewhere" and "ZeroDivisionError" in path.read_text()


def test_want_of_memory_and_a_reader_that_left_are_no_faults(here: Path, capfd: pytest.CaptureFixture) -> None:
    def lack() -> None:
        raise MemoryError
    assert cli.guarded("parapet", lack) == 1
    assert capfd.readouterr().err == ("parapet: memory ran out (MemoryError); give it more, or run less beside it, and "
                                      "run the same command again: what is done is kept.\n")
    code = ("import sys; from parapet.cli import guarded\n"
            "def work():\n    for _ in range(100000): print('line')\n"
            "sys.exit(guarded('parapet', work))")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b"" and run.wait(60) == 1
    assert not list(here.glob("parapet-crash-*"))


def test_a_sentence_stays_a_sentence(here: Path, capsys: pytest.CaptureFixture) -> None:
    def work() -> None:
        raise InputError("wrong.")
    assert cli.guarded("parapet", work) == 2
    assert capsys.readouterr().err == "parapet: wrong.\n" and not list(here.glob("parapet-crash-*"))


def test_a_password_that_is_longer_than_what_is_told_is_not_told() -> None:
    for length in (1, 150, 5_000):
        assert "hunter2" not in cli._first_line(ValueError(f"postgresql://a:hunter2{'x' * length}@db/m is away"))
