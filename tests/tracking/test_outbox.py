"""The outbox alone: order, events that never double, a damaged queue, what an older version left."""

import json
import math
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.errors import InputError, is_disk_full
from parapet.tracking import NullTracker, Outbox
from parapet.tracking.values import legal, number, numbers_and_texts, plain


def waiting(outbox: Outbox) -> list[str]:
    events, complaints = outbox.queue.events()
    assert complaints == []
    return [event.key.partition("+")[0] + event.key[-1] for event in events]


def test_events_keep_the_order_they_were_told_in(story):
    story.tell()
    assert [key[:-1] for key in waiting(story.outbox)] == ["search", *["candidate"] * 3, "front", "finish"]
    assert story.outbox.pending() == 6


def test_telling_the_same_again_writes_nothing(story):
    story.tell()
    path = story.outbox.queue.path
    before = path.stat().st_mtime_ns, path.read_bytes()
    story.tell()
    assert before == (path.stat().st_mtime_ns, path.read_bytes())


def test_a_changed_event_replaces_the_old_one_in_its_place_and_a_changed_front_goes_last(story):
    story.tell()
    story.candidate(0, generation=7)
    story.outbox.front(story.id, ["b" * 12])
    assert [key[:-1] for key in waiting(story.outbox)] == ["search", *["candidate"] * 3, "finish", "front"]
    events, _ = story.outbox.queue.events()
    assert events[1].body["record"]["generation"] == 7
    assert events[-1].body["ids"] == ["b" * 12]


def test_an_artifact_with_other_bytes_is_a_changed_event_and_a_moved_one_is_not(story, tmp_path):
    story.candidate(0)
    event, = story.outbox.queue.events()[0]
    story.weights = story.weights.rename(tmp_path / "moved")
    story.candidate(0)
    moved, = story.outbox.queue.events()[0]
    assert moved.digest == event.digest
    assert moved.created == event.created
    assert moved.body["artifacts"] == {"weights": os.path.relpath(tmp_path / "moved", moved.folder)}
    story.weights.write_bytes(b"other")
    story.candidate(0)
    changed, = story.outbox.queue.events()[0]
    assert changed.digest != event.digest


def test_evaluations_of_several_kinds_do_not_overwrite_each_other(story):
    for name in ("full_evaluation", "int8"):
        story.outbox.evaluation(story.id, "0" * 12, {"n": 1}, {}, name=name)
    assert story.outbox.pending() == 2


@pytest.mark.parametrize("later", [60.0, -86_400.0])
def test_a_changed_event_is_later_than_the_one_it_replaces(story, monkeypatch, later):
    """Also where the clock was set back by a day between them."""
    story.candidate(0)
    old, = story.outbox.queue.events()[0]
    now = time.time() + later
    monkeypatch.setattr(time, "time", lambda: now)
    story.candidate(0, generation=5)
    event, = story.outbox.queue.events()[0]
    assert event.body["record"]["generation"] == 5 and event.created > old.created


def test_an_event_that_changes_while_it_is_sent_still_waits(story):
    story.candidate(0)
    busy, = story.outbox.queue.events()[0]
    story.candidate(0, generation=5)
    story.outbox.queue.mark_sent(busy, "target", "run")
    event, = story.outbox.queue.events()[0]
    assert event.body["record"]["generation"] == 5
    assert story.outbox.queue.sent_run(busy, "target") == "run" and story.outbox.queue.sent_run(event, "target") is None


def test_an_unreadable_event_is_put_aside_and_told(story):
    story.tell()
    queue = story.outbox.queue
    with closing(sqlite3.connect(queue.path)) as database, database:
        database.execute("UPDATE waiting SET body = ? WHERE place = 2", (b'{"kind": "cand',))
    events, complaints = queue.events()
    assert len(events) == 5 == story.outbox.pending()
    assert complaints == [f"event 2 of queue.db was not readable and lies in {queue.folder}/rejected/event-2.txt."]
    assert "{\"kind\": \"cand" in (queue.folder / "rejected/event-2.txt").read_text()


@pytest.mark.parametrize("harm", [lambda _: b"something else", lambda content: content[:16] + bytes(84) + content[100:],
                                  lambda content: content[:4096] + b"\xff" * 4096 + content[8192:]])
def test_a_damaged_queue_is_put_aside_and_named_and_a_new_one_begun(story, harm):
    """The file is none of SQLite's, its header is empty, or its second page is damaged."""
    story.tell()
    queue = story.outbox.queue
    queue.path.write_bytes(harm(queue.path.read_bytes()))
    story.candidate(0)
    events, complaints = queue.events()
    aside, = (queue.folder / "rejected").iterdir()
    assert aside.name.startswith("queue-") and [event.kind for event in events] == ["candidate"]
    assert complaints == [f"queue.db was not readable and lies in {aside}."] and queue.events()[1] == []
    story.tell()
    assert story.outbox.pending() == 6


def _tell_many(folder: Path, who: str, count: int) -> None:
    outbox = Outbox(folder)
    for index in range(count):
        outbox.evaluation("s", f"{who}{index}", {"n": index}, {})


def test_of_processes_that_write_at_once_and_are_killed_nothing_that_was_told_is_lost(tmp_path):
    context, folder = multiprocessing.get_context("forkserver"), tmp_path / "outbox"
    writers = [context.Process(target=_tell_many, args=(folder, who, 40)) for who in "abc"]
    doomed = [context.Process(target=_tell_many, args=(folder, who, 10_000)) for who in "xyz"]
    for process in writers + doomed:
        process.start()
    told = [set()]
    for process in doomed:
        time.sleep(0.5)
        told.append({event.key for event in Outbox(folder).queue.events()[0]})
        process.kill()
        process.join()
    for process in writers:
        process.join()
        assert process.exitcode == 0
    events, complaints = Outbox(folder).queue.events()
    keys = {event.key for event in events}
    assert complaints == [] and set.union(*told) <= keys
    assert {f"evaluation+s+{who}{index}+evaluation" for who in "abc" for index in range(40)} <= keys


def test_what_an_older_version_left_waits_in_its_order(story):
    """One file per event; a kill could leave two of the same, of which the newer counts; a torn one is put aside."""
    folder = story.outbox.queue.folder
    folder.mkdir()
    for place, (key, mark, created) in enumerate([("search+s", "a", 1.0), ("candidate+s+x", "b", 3.0),
                                                  ("candidate+s+x", "c", 2.0), ("front+s", "d", 4.0)]):
        (folder / f"{place:08d}+{key}+{mark * 16}.json").write_text(json.dumps(
            {"schema_version": 1, "key": key, "digest": mark * 64, "created": created, "kind": key.partition("+")[0],
             "search_id": "s", "body": {"n": place, "artifacts": {"weights": "../w"}}}))
    torn = folder / f"00000009+finish+s+{'e' * 16}.json"
    torn.write_text('{"kind": "fin')
    assert story.outbox.pending() == 5
    story.begin()
    events, complaints = story.outbox.queue.events()
    assert [(event.key, event.digest[0], event.created, event.body["n"]) for event in events[:3]] == [
        ("search+s", "a", 1.0, 0), ("candidate+s+x", "b", 3.0, 1), ("front+s", "d", 4.0, 3)]
    assert events[3].key == f"search+{story.id}" and story.outbox.pending() == 4
    assert complaints == [f"{torn.name} was not readable and lies in {folder}/rejected/{torn.name}."]
    assert sorted(path.name for path in folder.iterdir()) == ["queue.db", "rejected"]


@pytest.mark.parametrize("created", [2**70, 10**400, "now", True])
def test_an_old_event_with_a_time_that_is_none_does_not_stop_the_queue(story, created):
    """SQLite takes integers of 64 bits: one file with a larger one would have stopped every later event."""
    folder = story.outbox.queue.folder
    folder.mkdir()
    (folder / f"00000000+search+s+{'a' * 16}.json").write_text(json.dumps(
        {"schema_version": 1, "key": "search+s", "digest": "a" * 64, "created": created, "body": {"n": 0}}))
    story.begin()
    events, complaints = story.outbox.queue.events()
    assert events[-1].key == f"search+{story.id}"
    assert len(complaints) == (created != 2**70) and len(events) == 1 + (created == 2**70)


@pytest.mark.parametrize(("code", "kind"), [("SQLITE_FULL", OSError), ("SQLITE_READONLY", PermissionError),
                                            ("SQLITE_IOERR", OSError)])
def test_what_the_machine_refuses_names_the_file(story, monkeypatch, code, kind):
    def refuse(*_, **__):
        error = sqlite3.OperationalError("it is so")
        error.sqlite_errorcode = getattr(sqlite3, code)
        raise error

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(kind) as caught:
        story.candidate(0)
    assert caught.value.filename == str(story.outbox.queue.path)
    assert is_disk_full(caught.value) == (code == "SQLITE_FULL")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told_by_its_name(story):
    story.outbox.queue.folder.mkdir(mode=0o555)
    with pytest.raises(PermissionError) as caught:
        story.candidate(0)
    assert str(story.outbox.queue.folder) in caught.value.filename


@pytest.mark.parametrize("bad", ["", "a/b", "a+b", "../up", "x" * 61, "ö", "a b"])
def test_ids_that_cannot_be_file_names_are_refused(story, bad):
    with pytest.raises(InputError, match="letters, digits"):
        story.outbox.front(bad, [])


def test_bodies_are_strict_json(story):
    story.candidate(0)
    event, = story.outbox.queue.events()[0]  # its reader refuses NaN
    assert event.body["curves"][-1]["loss"] == "NaN"


@given(st.floats() | st.integers(-2**53, 2**53) | st.booleans())
def test_numbers_survive_the_way_through_json(value):
    again = number(json.loads(json.dumps(plain(value), allow_nan=False)))
    assert again == value or (math.isnan(again) and math.isnan(value))


@settings(deadline=None)  # the first example imports MLflow
@given(st.text(min_size=1))
def test_legal_names_are_what_mlflow_takes(text):
    from mlflow.utils.validation import _validate_metric_name

    assert _validate_metric_name(legal(text)) is None, "it raises where the name is illegal"


def test_measurements_become_numbers_by_dotted_name_and_the_rest_texts():
    attacks = {"pgd": {"alone": 0.5, "left": None}, "square": {"alone": None, "left": 0.4}}
    numbers, texts = numbers_and_texts({"test": {"n": 3, "clean_interval": [0.1, 0.2], "attacks": attacks},
                                        "flops": None, "machine": "x", "providers": ["a"]})
    assert numbers == {"test.n": 3, "test.clean_interval.low": 0.1, "test.clean_interval.high": 0.2,
                       "test.pgd.alone": 0.5, "test.square.left": 0.4}
    assert texts == {"machine": "x", "providers": '["a"]'}


def test_importing_the_package_and_telling_an_outbox_needs_no_mlflow(tmp_path):
    code = (f"import sys, pathlib; from parapet.tracking import *; from parapet.registry import registry\n"
            f"box = Outbox(pathlib.Path({str(tmp_path)!r})); box.front('s', ['a']); print(box.pending())\n"
            f"print(flush(box, 'http://127.0.0.1:9', 'e').reason)\n"
            f"sys.exit('mlflow' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1", "MLflow at http://127.0.0.1:9 is away: connection refused."]


def test_the_null_tracker_has_every_public_method_of_outbox_and_sender():
    from parapet.tracking import BackgroundSender

    wanted = {name for name in {*dir(Outbox), *dir(BackgroundSender)} if not name.startswith("_")}
    assert wanted - {"requeue", "forget"} <= set(dir(NullTracker))
    null = NullTracker()
    null.candidate("s", {}, [], {}, {})
    assert (null.pending(), null.close(1.0)) == (0, 0)
