"""The outbox alone: files that sort, events that never double, strict JSON."""

import json
import math
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.errors import InputError
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


def test_telling_the_same_again_changes_no_file(story):
    story.tell()
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in story.outbox.queue.folder.glob("*.json")}
    story.tell()
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_ino)
                      for path in story.outbox.queue.folder.glob("*.json")}


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
    assert moved.body["artifacts"] == {"weights": os.path.relpath(tmp_path / "moved", moved.path.parent)}
    story.weights.write_bytes(b"other")
    story.candidate(0)
    changed, = story.outbox.queue.events()[0]
    assert changed.digest != event.digest


def test_evaluations_of_several_kinds_do_not_overwrite_each_other(story):
    for name in ("full_evaluation", "int8"):
        story.outbox.evaluation(story.id, "0" * 12, {"n": 1}, {}, name=name)
    assert story.outbox.pending() == 2


@pytest.mark.parametrize("later", [60.0, -86_400.0])
def test_a_kill_between_writing_a_changed_event_and_removing_the_old_one_leaves_the_newer(story, monkeypatch, later):
    """Also where the clock was set back by a day between them."""
    story.candidate(0)
    old, = story.outbox.queue.folder.glob("*.json")
    text, now = old.read_text(), time.time() + later
    monkeypatch.setattr(time, "time", lambda: now)
    story.candidate(0, generation=5)
    old.write_text(text)
    assert story.outbox.pending() == 2
    event, = story.outbox.queue.events()[0]
    assert event.body["record"]["generation"] == 5
    assert story.outbox.pending() == 1


def test_an_unreadable_file_is_moved_aside_and_told(story):
    story.tell()
    torn = sorted(story.outbox.queue.folder.glob("*.json"))[1]
    torn.write_text('{"kind": "cand')
    events, complaints = story.outbox.queue.events()
    assert len(events) == 5
    assert torn.name in complaints[0]
    assert (story.outbox.queue.folder / "rejected" / torn.name).exists()


@pytest.mark.parametrize("bad", ["", "a/b", "a+b", "../up", "x" * 61, "ö", "a b"])
def test_ids_that_cannot_be_file_names_are_refused(story, bad):
    with pytest.raises(InputError, match="letters, digits"):
        story.outbox.front(bad, [])


def test_files_are_strict_json(story):
    story.candidate(0)
    path, = story.outbox.queue.folder.glob("*.json")

    def refuse(word):
        raise AssertionError(word)

    assert json.loads(path.read_text(), parse_constant=refuse)["body"]["curves"][-1]["loss"] == "NaN"


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
