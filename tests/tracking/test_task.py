"""A task of a pipeline tracks by itself: it joins Kubeflow's run, sends before it ends, and never fails for MLflow."""

import pytest

from parapet.tracking import NullTracker, tracked_task
from parapet.tracking.connection import connect
from tests.tracking.tracked_story import Story


def _tell(story: Story, environment: dict[str, str], said: list[str], **options) -> None:
    with tracked_task(environment, enabled=True, experiment=story.experiment, tell=said.append, **options) as task:
        story.outbox = task.tracker
        story.tell()


def test_several_tasks_share_a_search_and_know_what_it_has(story, server):
    said: list[str] = []
    for candidates in (2, 3):
        story.candidates = candidates
        _tell(story, {"MLFLOW_TRACKING_URI": server.uri}, said)
    story.check(server.uri)
    assert said == []
    with tracked_task({"MLFLOW_TRACKING_URI": server.uri}, enabled=True, experiment=story.experiment) as task:
        assert set(task.known(story.id)) == set(story.children(server.uri))
        assert task.runs(story.id)["parent_run_id"] == story.parents(server.uri)[0].info.run_id
        assert set(task.known("unheard-of")) == set()


def test_the_run_that_kubeflow_opened_for_the_task_is_joined(story, server):
    client = connect(server.uri)
    experiment = client.create_experiment(f"kubeflow-{story.id}")
    root = client.create_run(experiment, run_name="kubeflow's run")
    opened = client.create_run(experiment, tags={"mlflow.parentRunId": root.info.run_id})
    _tell(story, {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_RUN_ID": opened.info.run_id}, [])
    runs = client.search_runs([experiment])
    assert len(runs) == 2 + story.candidates  # no tree beside Kubeflow's
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if "candidate" in run.data.tags} == {root.info.run_id}
    assert client.get_run(root.info.run_id).data.tags["parapet.search"] == story.id


@pytest.mark.parametrize(("environment", "enabled"), [
    ({}, True), ({"MLFLOW_TRACKING_URI": "\n"}, True), ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, False)])
def test_without_mlflow_nothing_is_tracked(environment, enabled):
    with tracked_task(environment, enabled=enabled, experiment="none") as task:
        assert isinstance(task.tracker, NullTracker)
        assert task.runs("search") is None and task.known("search") == ()


def test_an_mlflow_that_is_away_costs_its_patience_and_a_sentence(story, free_port):
    said: list[str] = []
    _tell(story, {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port}"}, said, patience=0.1)
    assert said == [f"6 records did not reach MLflow (MLflow at http://127.0.0.1:{free_port} is away: connection "
                    "refused.) The task's own results are complete; run it again to send them."]


def test_a_task_that_fails_has_told_what_it_knew(story, server):
    with pytest.raises(ZeroDivisionError), tracked_task({"MLFLOW_TRACKING_URI": server.uri}, enabled=True,
                                                        experiment=story.experiment) as task:
        story.outbox = task.tracker
        story.tell()
        raise ZeroDivisionError
    story.check(server.uri)
