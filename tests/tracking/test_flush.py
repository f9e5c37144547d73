"""Sending to a real MLflow: what arrives, that nothing arrives twice, and what happens when it is away."""

import http.server
import json
import socket
import sqlite3
import threading
import time

import pandas
import pytest

from parapet.tracking import Flushed, Outbox, flush, run_ids
from parapet.tracking.connection import connect
from tests.tracking.tracked_story import EPOCHS, TAGS, Story, name_of, points, record


def send(story: Story, uri: str, **options) -> Flushed:
    return flush(story.outbox, uri, story.experiment, story.artifact_root, **options)


def test_a_search_arrives_whole_and_sending_twice_changes_nothing(story, sqlite_uri):
    story.tell()
    seen = []
    assert send(story, sqlite_uri, progress=lambda done, of: seen.append((done, of))) == Flushed(sent=6, kept=0)
    assert seen == [(number, 6) for number in range(1, 7)]
    story.check(sqlite_uri)
    story.tell()
    assert send(story, sqlite_uri) == Flushed(sent=0, kept=0)
    story.outbox.forget()
    story.tell()
    assert send(story, sqlite_uri) == Flushed(sent=6, kept=0)
    story.check(sqlite_uri)
    assert story.outbox.pending() == 0


def test_another_machine_with_an_outbox_of_its_own_makes_no_second_run(story, sqlite_uri, tmp_path):
    story.tell()
    send(story, sqlite_uri)
    story.outbox = Outbox(tmp_path / "other")
    story.tell()
    assert send(story, sqlite_uri).sent == 6
    story.check(sqlite_uri)


def test_what_a_candidate_run_holds(story, sqlite_uri):
    story.tell()
    story.candidate(9, status="infeasible", reason="loss was not finite", validation=None, audit=None,
                    latency_ms=None, flops=None)
    story.outbox.evaluation(story.id, name_of(1), {"test": record(1)["validation"]},
                            {"evaluation": story.weights}, name="full_evaluation")
    send(story, sqlite_uri)
    children = story.children(sqlite_uri)
    run, = children[name_of(1)]
    data = run.data
    assert run.info.run_name == name_of(1)
    assert data.params == {name: str(value) for name, value in record(1)["genome"].items()} | {
        "seed": "101", "fidelity.epochs": str(EPOCHS), "fidelity.data_share": "0.5"}
    assert {name: data.metrics[name] for name in data.metrics if not name.startswith("epoch.")} == {
        "validation.n": 100, "validation.clean_accuracy": 0.9, "validation.clean_interval.low": 0.82,
        "validation.clean_interval.high": 0.95, "validation.robust_accuracy": 0.5,
        "validation.robust_interval.low": 0.4, "validation.robust_interval.high": 0.6, "validation.pgd.alone": 0.501,
        "validation.square.left": 0.7, "flops": 123456, "params": 789, "training_seconds": 3.5, "training_flops": 1e12,
        "latency_ms.p50": 1, "latency_ms.p90": 2, "latency_ms.p99": 3, "latency_ms.batch": 1, "latency_ms.threads": 1,
        "test.n": 100, "test.clean_accuracy": 0.9, "test.clean_interval.low": 0.82, "test.clean_interval.high": 0.95,
        "test.robust_accuracy": 0.5, "test.robust_interval.low": 0.4, "test.robust_interval.high": 0.6,
        "test.pgd.alone": 0.501, "test.square.left": 0.7}
    assert {"candidate": name_of(1), "generation": "0", "on_front": "false", "status": "feasible", "audit": "warn",
            "audit_reasons": "few images weak attack", "latency_ms.machine": "a cpu", **TAGS}.items() \
        <= data.tags.items()
    client = connect(sqlite_uri)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"weights", "evaluation"}
    assert run.info.artifact_uri.startswith(story.artifact_root.as_uri())
    failed, = children[name_of(9)]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["reason"] == "loss was not finite"


def test_a_search_run_holds_params_tags_and_the_data_set(story, sqlite_uri):
    story.outbox.search(story.id, "a search", {"seed": 1, "search": {"population": 4, "space": {"width": [4, 8]}}},
                        TAGS, {"name": "digits", "fingerprint": "ab" * 32, "images": {"train": 9}})
    assert send(story, sqlite_uri) == Flushed(sent=1, kept=0)
    run, = story.parents(sqlite_uri)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"seed": "1", "search.population": "4", "search.space.width": "[4, 8]"}
    assert TAGS.items() <= run.data.tags.items()
    used, = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", "ab" * 18)
    assert json.loads(used.dataset.profile) == {"fingerprint": "ab" * 32, "images": {"train": 9}}


def test_the_front_is_one_query_and_one_table(story, sqlite_uri, tmp_path):
    story.tell()
    (tmp_path / "pareto").mkdir()
    (tmp_path / "pareto/front.json").write_text('{"columns": ["id", "flops"], "data": [["a", 5]]}')
    story.outbox.finish(story.id, {"hypervolume": 0.25}, {"pareto": tmp_path / "pareto"})
    flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    client, (parent,) = connect(sqlite_uri), story.parents(sqlite_uri)
    found = client.search_runs([parent.info.experiment_id], "tags.on_front = 'true'")
    assert [run.data.tags["candidate"] for run in found] == [name_of(0)]
    # What mlflow.load_table looks for, and MLflow's page.
    assert parent.data.tags["mlflow.loggedArtifacts"] == '[{"path": "pareto/front.json", "type": "table"}]'
    file = client.download_artifacts(parent.info.run_id, "pareto/front.json", str(tmp_path))
    assert pandas.read_json(file, orient="split").to_dict("records") == [{"id": "a", "flops": 5}]


def test_a_retry_with_other_values_updates_the_same_run(story, sqlite_uri):
    story.tell()
    send(story, sqlite_uri)
    story.candidate(0, params=5)
    send(story, sqlite_uri)
    run, = story.children(sqlite_uri)[name_of(0)]
    assert run.data.metrics["params"] == 5
    assert points(connect(sqlite_uri), run, "flops") == [(0, 123456)]
    assert run.data.tags["on_front"] == "true"


def test_the_front_moves_and_candidates_without_a_run_are_told(story, sqlite_uri):
    story.tell()
    story.outbox.front(story.id, [name_of(1), name_of(2), "f" * 12])
    result = send(story, sqlite_uri)
    assert f"names candidates without a run: {'f' * 12}." in result.warnings[0]
    assert {name: run.data.tags["on_front"] for name, (run,) in story.children(sqlite_uri).items()} == {
        name_of(0): "false", name_of(1): "true", name_of(2): "true"}


def test_two_runs_of_a_search_that_a_slow_server_let_pass_become_one(story, sqlite_uri):
    story.begin()
    story.candidate(0)
    flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    parent, = story.parents(sqlite_uri)
    client = connect(sqlite_uri)
    tags = {**parent.data.tags, "parapet.made": "0" * 20}
    earlier = client.create_run(parent.info.experiment_id, tags=tags, run_name="a search")
    story.tell()
    flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    only, = story.parents(sqlite_uri)
    assert only.info.run_id == earlier.info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for (run,) in story.children(sqlite_uri).values()} == {
        only.info.run_id}


def test_an_artifact_that_vanished_is_a_warning_and_the_queue_goes_on(story, sqlite_uri):
    story.tell()
    story.weights.unlink()
    result = send(story, sqlite_uri)
    assert (result.sent, result.kept, result.reason) == (6, 0, None)
    assert len(result.warnings) == 3
    assert "was deleted before it was sent to MLflow, so its run has no weights" in result.warnings[0]


def test_a_refused_event_is_put_aside_and_the_rest_goes_on(story, sqlite_uri):
    story.tell()
    story.begin(name="x" * 600)
    result = send(story, sqlite_uri)
    assert (result.sent, result.kept, result.rejected, result.reason) == (5, 0, 1, None)
    assert "MLflow refused the search event" in result.warnings[0]
    assert "exceeds the maximum length" in result.warnings[0]
    assert [path.name for path in (story.outbox.queue.folder / "rejected").iterdir()] == [f"search+{story.id}.json"]
    assert len(story.children(sqlite_uri)) == 3
    assert story.outbox.requeue() == 1
    assert send(story, sqlite_uri).rejected == 1
    story.begin()
    assert send(story, sqlite_uri).sent == 1
    assert list((story.outbox.queue.folder / "rejected").iterdir()) == []
    story.check(sqlite_uri)


def test_changed_params_of_a_resumed_search_are_told_and_do_not_fail(story, sqlite_uri):
    story.tell()
    send(story, sqlite_uri)
    story.outbox.search(story.id, "a search", {"seed": 1, "search": {"population": 8}, "new": 1}, TAGS, {})
    result = send(story, sqlite_uri)
    assert result.sent == 1
    assert "keeps its first values of search.population" in result.warnings[0]
    parent, = story.parents(sqlite_uri)
    assert parent.data.params["new"] == "1"


def test_a_locked_database_keeps_everything_within_seconds(story, tmp_path, migrated):
    copy = tmp_path / "locked.db"
    copy.write_bytes(migrated.read_bytes())
    story.tell()
    holder = sqlite3.connect(copy, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    result = send(story, f"sqlite:///{copy}")
    assert time.monotonic() - began < 5
    assert result == Flushed(0, 6, reason=f"MLflow at sqlite:///{copy} is away: database is locked.")
    holder.execute("ROLLBACK")
    holder.close()
    assert send(story, f"sqlite:///{copy}").sent == 6
    story.check(f"sqlite:///{copy}")


def test_a_deleted_database_gets_everything_again(story, tmp_path, migrated):
    copy = tmp_path / "copy.db"
    copy.write_bytes(migrated.read_bytes())
    story.tell()
    assert send(story, f"sqlite:///{copy}").sent == 6
    copy.write_bytes(migrated.read_bytes())
    story.tell()
    assert send(story, f"sqlite:///{copy}").sent == 6
    story.check(f"sqlite:///{copy}")


def test_a_search_joins_the_tree_that_kubeflow_made(story, sqlite_uri):
    client = connect(sqlite_uri)
    experiment = client.create_experiment(story.experiment, artifact_location=story.artifact_root.as_uri())
    root = client.create_run(experiment, run_name="pipeline")
    task = client.create_run(experiment, run_name="task", tags={"mlflow.parentRunId": root.info.run_id})
    story.tell()
    assert flush(story.outbox, sqlite_uri, "elsewhere", None, parent_run_id=task.info.run_id).sent == 6
    for (run,) in story.children(sqlite_uri).values():
        assert run.data.tags["mlflow.parentRunId"] == root.info.run_id
    root = client.get_run(root.info.run_id)
    assert (root.info.run_name, root.info.status) == ("pipeline", "RUNNING")
    assert root.data.metrics["hypervolume"] == 0.25
    assert client.get_experiment_by_name("elsewhere") is None
    found = run_ids(sqlite_uri, "elsewhere", story.id, task.info.run_id)
    assert found["parent_run_id"] == root.info.run_id
    assert set(found["candidates"]) == {name_of(index) for index in range(3)}


def test_a_run_to_join_that_does_not_exist_is_told(story, sqlite_uri):
    story.tell()
    result = send(story, sqlite_uri, parent_run_id="0" * 32)
    assert result.sent == 6
    assert "no run 00000000000000000000000000000000 to join" in result.warnings[0]
    story.check(sqlite_uri)


def test_run_ids_names_the_runs_or_is_none(story, sqlite_uri, tmp_path, free_port):
    story.tell()
    send(story, sqlite_uri)
    found = run_ids(sqlite_uri, story.experiment, story.id)
    assert found["tracking_uri"] == sqlite_uri
    assert found["parent_run_id"] == story.parents(sqlite_uri)[0].info.run_id
    assert found["candidates"] == {name: run.info.run_id for name, (run,) in story.children(sqlite_uri).items()}
    assert run_ids(sqlite_uri, story.experiment, "another") is None
    assert run_ids(sqlite_uri, "another", story.id) is None
    assert run_ids(f"http://127.0.0.1:{free_port}", story.experiment, story.id) is None
    assert run_ids(f"sqlite:///{tmp_path / 'none.db'}", story.experiment, story.id) is None
    assert not (tmp_path / "none.db").exists()


def test_a_deleted_experiment_keeps_everything_and_says_what_to_do(story, sqlite_uri):
    client = connect(sqlite_uri)
    client.delete_experiment(client.create_experiment(story.experiment))
    story.tell()
    result = send(story, sqlite_uri)
    assert result.kept == 6
    assert "mlflow experiments restore" in result.reason


def test_only_one_sender_at_a_time(story, sqlite_uri):
    story.tell()
    with story.outbox.queue.sending():
        result = send(story, sqlite_uri)
    assert result.kept == 6
    assert "Another process is sending" in result.reason


@pytest.mark.parametrize("uri, reason", [
    ("http://127.0.0.1:{port}", "MLflow at http://127.0.0.1:{port} is away: connection refused."),
    ("http://me:secret@127.0.0.1:{port}/", "MLflow at http://127.0.0.1:{port}/ is away: connection refused."),
    ("postgresql://me:secret@127.0.0.1:{port}/db",
     "MLflow at postgresql://127.0.0.1:{port}/db is away: connection refused."),
    ("mlruns", "MLflow no longer keeps runs in folders, and 'mlruns' is one; use sqlite:///FILE.db or the address of "
     "a server."),
    ("sqlite:////dev/null/x/mlflow.db",
     "MLflow at sqlite:////dev/null/x/mlflow.db is away: /dev/null is not a folder to write in."),
])
def test_an_mlflow_that_is_away_keeps_everything_and_says_why(story, free_port, uri, reason):
    story.tell()
    began = time.monotonic()
    assert send(story, uri.format(port=free_port)) == Flushed(0, 6, reason=reason.format(port=free_port))
    assert time.monotonic() - began < 3
    assert story.outbox.pending() == 6


def test_a_server_that_accepts_and_never_answers_is_away(story):
    story.tell()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        result = send(story, f"http://127.0.0.1:{deaf.getsockname()[1]}")
    assert result.kept == 6
    assert "no answer within 2 seconds" in result.reason


def test_a_server_in_trouble_is_away(story):
    class Sick(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        def log_message(self, *_):
            pass

    story.tell()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sick) as sick:
        threading.Thread(target=sick.serve_forever, daemon=True).start()
        result = send(story, f"http://127.0.0.1:{sick.server_port}")
        sick.shutdown()
    assert result.kept == 6
    assert "it answers with error 503" in result.reason
