"""The sending thread: it keeps off the cores, tells once, and never raises into the search."""

import threading
import time
from contextlib import contextmanager

from parapet.tracking import BackgroundSender
from tests.tracking.tracked_story import Story


def test_everything_is_sent_while_the_search_runs_and_close_says_nothing_waits(story, sqlite_uri):
    sender = BackgroundSender(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    story.tell()
    assert sender.close(60) == 0
    story.check(sqlite_uri)


def test_events_are_sent_as_they_come(story, sqlite_uri):
    sender = BackgroundSender(story.outbox, sqlite_uri, story.experiment, story.artifact_root, pause=60)
    story.begin()
    until = time.monotonic() + 30
    while story.outbox.pending() and time.monotonic() < until:
        time.sleep(0.05)
    assert story.outbox.pending() == 0
    assert sender.close() == 0


def test_nothing_is_sent_while_somebody_times(story, sqlite_uri):
    cores, held = threading.Lock(), []

    @contextmanager
    def gate():
        with cores:
            held.append(threading.current_thread().name)
            yield

    cores.acquire()
    sender = BackgroundSender(story.outbox, sqlite_uri, story.experiment, story.artifact_root, gate)
    story.tell()
    time.sleep(0.5)
    assert story.outbox.pending() == 6
    cores.release()
    assert sender.close(60) == 0
    assert held == ["parapet-tracking"] * len(held)
    assert len(held) >= 7  # once to connect, and for each event


def test_close_waits_no_longer_than_it_was_told(story, sqlite_uri):
    cores = threading.Lock()
    with cores:
        sender = BackgroundSender(story.outbox, sqlite_uri, story.experiment, story.artifact_root, lambda: cores)
        story.tell()
        began = time.monotonic()
        assert sender.close(0.3) == 6
        assert time.monotonic() - began < 2


def test_being_away_is_told_once_and_never_raised(story, free_port):
    told = []

    def tell(message: str) -> None:
        told.append(message)
        raise OSError("the terminal is gone")

    sender = BackgroundSender(story.outbox, f"http://127.0.0.1:{free_port}", story.experiment, tell=tell, pause=0.05)
    for index in range(3):
        story.candidate(index)
        time.sleep(0.2)
    assert sender.close(5) == 3
    assert told == [f"MLflow at http://127.0.0.1:{free_port} is away: connection refused. The search goes on; what "
                    "MLflow did not get is kept and sent later."]


def test_a_broken_outbox_is_told_and_not_raised(tmp_path, sqlite_uri):
    story, told = Story(tmp_path), []
    story.begin()
    (story.outbox.queue.folder / ".sending.lock").mkdir()
    sender = BackgroundSender(story.outbox, sqlite_uri, story.experiment, story.artifact_root, tell=told.append)
    assert sender.close(30) == 1
    assert len(told) == 1
