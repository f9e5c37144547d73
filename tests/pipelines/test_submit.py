"""`python -m pipelines submit` against an API with state: versions by revision, runs followed, failures told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipelines.__main__ import main
from tests.pipelines.kfp_server import serving

GOLDEN = Path(__file__).parent / "golden"
IMAGE = "registry.example/parapet@sha256:" + "0" * 64
DONE = {"state": "SUCCEEDED", "tasks": {"data-prep": "SUCCEEDED", "training": "SUCCEEDED"}}


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose changes are all committed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    (tmp_path / "params.yaml").write_text((GOLDEN / "params.yaml").read_text())
    _git("init", "-q")
    _commit("first")
    return tmp_path


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True,
                          capture_output=True, text=True)
    return done.stdout.strip()


def _commit(text: str) -> None:
    _git("add", "-A")
    _git("commit", "-q", "-m", text)


def _submit(uri: str, *more: str) -> int:
    return main(["submit", "--image", IMAGE, "--host", uri, "--interval", "0.01", *more])


def test_a_version_is_uploaded_run_and_followed_to_its_end(server, capsys) -> None:
    state, uri = server
    state.plan_run({"state": "PENDING"}, {"state": "RUNNING", "tasks": {"data-prep": "RUNNING"}},
                   {"state": "RUNNING", "tasks": {"data-prep": "SUCCEEDED", "training": "RUNNING"}}, DONE)
    assert _submit(uri) == 0
    revision = _git("rev-parse", "HEAD")
    version, = [each for each in state.versions.values() if each.display_name.startswith(revision[:12])]
    run, = state.runs.values()
    assert run.pipeline_version_reference["pipeline_version_id"] == version.pipeline_version_id
    said = capsys.readouterr().out.splitlines()
    assert said == [f"version {version.display_name} of robust-search",
                    f"run {run.run_id} of {version.display_name}: {uri}/#/runs/details/{run.run_id}",
                    "data-prep: succeeded", "training: succeeded"]


def test_the_same_revision_and_parameters_are_uploaded_once_and_others_are_another_version(server, repository) -> None:
    state, uri = server
    state.plan_run(DONE)
    assert _submit(uri) == _submit(uri) == 0
    assert len(state.versions) == 2  # the one that came with the pipeline, and ours
    assert len(state.runs) == 2
    other = (repository / "params.yaml").read_text().replace("population: 3", "population: 4")
    assert "population: 4" in other
    (repository / "params.yaml").write_text(other)
    _commit("another population")
    assert _submit(uri) == 0
    assert len({each.display_name for each in state.versions.values()}) == len(state.versions)


def test_a_run_that_fails_half_way_names_the_task_and_the_reason(server, capsys) -> None:
    state, uri = server
    state.plan_run({"state": "RUNNING", "tasks": {"data-prep": "SUCCEEDED"}},
                   {"state": "FAILED", "error": "a task failed",
                    "tasks": {"data-prep": "SUCCEEDED", "for-loop-2": "FAILED", "training": "FAILED:exit code 137"}})
    assert _submit(uri) == 1
    told = capsys.readouterr()
    assert told.err.rstrip().endswith("failed: training: exit code 137")
    assert "data-prep: succeeded" in told.out and "training: failed" in told.out


def test_a_server_in_trouble_is_asked_again_while_the_run_goes_on(server, capsys) -> None:
    state, uri = server
    state.plan_run({"state": "RUNNING"}, DONE)
    state.fail("GET .*/runs/", 500, times=3)
    assert _submit(uri) == 0
    assert f"{uri} is in trouble (500: planned failure 500); try again later. The run goes on; asking again." \
        in capsys.readouterr().out


def test_without_waiting_the_run_is_only_begun(server) -> None:
    state, uri = server
    assert _submit(uri, "--no-wait") == 0
    assert len(state.runs) == 1 and not any("GET /apis/v2beta1/runs" in asked for asked in state.requests)


def test_somebody_who_uploads_meanwhile_is_no_failure(server) -> None:
    state, uri = server
    state.plan_run(DONE)
    assert _submit(uri) == 0
    # Of the version nothing is seen before it is uploaded once more.
    hidden, upload = dict(state.versions), state.upload_version
    state.versions.clear()

    def late(query: dict, body: bytes) -> tuple:
        state.versions.update(hidden)
        return upload(query, body)
    state.upload_version = late
    state.plan_run(DONE)
    assert _submit(uri) == 0
    assert state.versions == hidden and "POST /apis/v2beta1/pipelines/upload_version" in state.requests


def test_another_content_under_the_same_name_is_refused(server) -> None:
    state, uri = server
    state.plan_run(DONE)
    assert _submit(uri) == 0
    for version in state.versions.values():
        version.description = "content sha256 of something else"
    assert _submit(uri) == 2


@pytest.mark.parametrize(("arguments", "sentence"), [
    ((), "refuses the credentials (401: the token is not valid); give a bearer token with --token-file"),
    (("--token-file", "none"), "none cannot be read (No such file or directory); give a file with a bearer token."),
])
def test_credentials_that_are_refused_are_one_sentence(server, capsys, arguments, sentence) -> None:
    state, uri = server
    state.token = "secret"
    assert _submit(uri, *arguments) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1


def test_a_token_lets_in(server, repository) -> None:
    state, uri = server
    state.token = "secret"
    state.plan_run(DONE)
    (repository.parent / "token").write_text("secret\n")
    assert _submit(uri, "--token-file", str(repository.parent / "token")) == 0


def test_a_server_that_does_not_answer_is_given_up_in_time(server, capsys) -> None:
    state, uri = server
    state.hang_on("GET .*/pipelines")
    assert _submit(uri, "--request-seconds", "0.3") == 1
    assert f"{uri} does not answer (" in capsys.readouterr().err


def test_nobody_at_the_address_is_told(capsys) -> None:
    assert _submit("http://127.0.0.1:9", "--request-seconds", "2") == 1
    assert "http://127.0.0.1:9 does not answer (" in capsys.readouterr().err


def test_changes_that_are_not_committed_are_refused(server, capsys, repository) -> None:
    state, uri = server
    (repository / "new.txt").touch()
    assert _submit(uri) == 2
    assert "has changes that are not committed" in capsys.readouterr().err
    state.plan_run(DONE)
    assert _submit(uri, "--allow-dirty") == 0
    assert any("-dirty-" in version.display_name for version in state.versions.values())


@pytest.mark.parametrize("image", ["parapet:dev", "parapet", "parapet@sha256:12"])
def test_a_mutable_tag_is_refused_unless_asked_for(server, capsys, image) -> None:
    state, uri = server
    command = ["submit", "--image", image, "--host", uri, "--no-wait"]
    assert main(command) == 2
    assert f"the image {image!r} is named by a tag" in capsys.readouterr().err
    assert state.requests == []
    assert main([*command, "--allow-mutable-tag"]) == 0


def test_the_pipeline_promote_needs_a_front_and_a_registry(server, capsys) -> None:
    state, uri = server
    assert _submit(uri, "--pipeline", "promote") == 2
    assert "needs the front of an earlier run" in capsys.readouterr().err
    promote = ("--pipeline", "promote", "--assembled", "s3://b/a", "--no-wait")
    assert _submit(uri, *promote) == 2
    assert "a promotion needs a model registry" in capsys.readouterr().err and not state.pipelines
    Path("cluster.yaml").write_text("mlflow_uri: http://mlflow.parapet.svc:5000\n")
    _commit("a cluster")
    assert _submit(uri, *promote, "--cluster", "cluster.yaml") == 0
    assert [each.display_name for each in state.pipelines.values()] == ["promote"]
