"""Kills: of the server in the middle of a flush, and of the sender at random points."""

import multiprocessing
import random
import time

import pytest

from parapet.tracking import BackgroundSender, Outbox, flush
from parapet.tracking.connection import connect
from parapet.tracking.runs import Runs
from tests.tracking.tracked_story import Story, name_of


@pytest.fixture(scope="module")
def processes():
    """Children that have MLflow imported already and nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "parapet.tracking"])
    return context


def test_a_server_refuses_for_good_and_the_rest_goes_on(story, server):
    story.tell()
    story.begin(name="x" * 600)
    result = flush(story.outbox, server.uri, story.experiment)
    assert (result.sent, result.rejected, result.reason) == (5, 1, None)


def test_a_server_killed_in_the_middle_is_told_once_and_gets_the_rest_when_it_is_back(tmp_path, server):
    story = Story(tmp_path, candidates=6)
    story.tell()

    def kill_at_four(done: int, _: int) -> None:
        if done == 4:
            server.kill()

    result = flush(story.outbox, server.uri, story.experiment, None, kill_at_four)
    assert (result.sent, result.kept) == (4, 5)
    assert result.reason.startswith(f"MLflow at {server.uri} is away: connection re")  # reset, or refused
    told = []
    sender = BackgroundSender(story.outbox, server.uri, story.experiment, tell=told.append, pause=0.1)
    time.sleep(1.0)
    assert len(told) == 1
    assert story.outbox.pending() == 5
    server.start()
    assert sender.close(60) == 0
    assert len(told) == 1
    story.check(server.uri)


def test_a_sender_killed_at_random_points_ends_complete_and_undoubled(tmp_path, sqlite_uri, processes):
    story = Story(tmp_path, candidates=12)
    story.tell()
    chance = random.Random(7)
    kills = 0
    while story.outbox.pending() and kills < 8:
        child = processes.Process(target=flush, args=(story.outbox, sqlite_uri, story.experiment, story.artifact_root))
        child.start()
        child.join(chance.uniform(0.25, 0.7))
        child.kill()
        child.join()
        kills += 1
        story.tell()  # the search was killed as well and tells everything again
    result = flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    assert result.kept == 0
    assert kills > 3
    story.check(sqlite_uri)


def test_two_pods_that_begin_at_once_share_one_parent_in_the_end(tmp_path, sqlite_uri, processes):
    """Each may have one of its own where the other's is not there yet when it looks; the front leaves the first."""
    story = Story(tmp_path, candidates=4)
    boxes = [story.outbox, Outbox(tmp_path / "second")]
    for number, box in enumerate(boxes):
        story.outbox = box
        story.begin()
        story.candidate(2 * number)
        story.candidate(2 * number + 1)
    children = [processes.Process(target=flush, args=(box, sqlite_uri, story.experiment, story.artifact_root))
                for box in boxes]
    for child in children:
        child.start()
    for child in children:
        child.join()
    story.outbox.front(story.id, [name_of(0)])
    flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    _one_parent_of_all(story, sqlite_uri)


def test_a_search_with_two_runs_has_one_after_its_front(tmp_path, sqlite_uri, monkeypatch):
    story = Story(tmp_path, candidates=4)
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "find", lambda self, *search: None)  # what each pod sees before the other's run is made
        made = [Runs(connect(sqlite_uri), story.experiment, story.artifact_root).parent(story.id) for _ in range(2)]
    assert {run.info.run_id for run in story.parents(sqlite_uri)} == set(made)
    story.tell()
    flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    _one_parent_of_all(story, sqlite_uri)
    assert story.parents(sqlite_uri)[0].info.run_id == made[0]


def _one_parent_of_all(story, sqlite_uri):
    parent, = story.parents(sqlite_uri)
    runs = story.children(sqlite_uri)
    assert sorted(runs) == [name_of(index) for index in range(4)]
    assert {run.data.tags["mlflow.parentRunId"] for (run,) in runs.values()} == {parent.info.run_id}


def test_a_database_whose_making_was_killed_is_made_by_the_next_one(tmp_path, processes):
    uri, chance, kills = f"sqlite:///{tmp_path / 'mlflow.db'}", random.Random(0), 0
    while not (tmp_path / "mlflow.db").exists() and kills < 8:
        child = processes.Process(target=connect, args=(uri,))
        child.start()
        child.join(chance.uniform(0.5, 4.0))
        child.kill()
        child.join()
        kills += 1
    assert kills > 0
    client = connect(uri)
    client.create_experiment("after all of them")
    assert not list(tmp_path.glob("mlflow.db-*"))
    assert [found.name for found in client.search_experiments()] == ["after all of them", "Default"]


def test_two_that_make_a_database_at_once_use_the_same(tmp_path, processes):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    stories = [Story(tmp_path, candidates=1) for _ in range(2)]
    for place, story in enumerate(stories):
        story.outbox = Outbox(tmp_path / f"outbox-{place}")
        story.tell()
    children = [processes.Process(target=flush, args=(story.outbox, uri, story.experiment, story.artifact_root))
                for story in stories]
    for child in children:
        child.start()
    for child in children:
        child.join()
    for story in stories:
        story.check(uri)
