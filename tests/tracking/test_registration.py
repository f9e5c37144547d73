"""What is registered is what was measured: the bytes, what lies beside them, once, and the same after a copy."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from parapet.errors import WorkError
from parapet.tracking import flush
from parapet.tracking.connection import connect
from parapet.tracking.registration import DIGEST_TAG, attach, copy, download, file_tags, known, register, withdraw
from parapet.tracking.registry import Registry
from tests.tracking.tiny_models import shipment


@pytest.fixture(params=["sqlite", "server"])
def registry(story, request) -> Registry:
    uri = request.getfixturevalue("sqlite_uri") if request.param == "sqlite" else request.getfixturevalue("server").uri
    found = Registry(uri, f"model {story.id}")
    found.create_model()
    return found


def run_of(story, uri: str) -> str:
    story.tell()
    flush(story.outbox, uri, story.experiment, None if uri.startswith("http") else story.artifact_root)
    return story.parents(uri)[0].info.run_id


def test_a_version_is_the_file_that_was_measured_and_what_lies_beside_it(story, registry, tmp_path):
    import mlflow

    run_id = run_of(story, registry.uri)
    shipped = shipment(tmp_path, 1.0, story, run_id, card="the card")
    assert known(registry, shipped.digests) is None
    made = register(registry, shipped, {"eps": "8/255"}, "the first")
    version = connect(registry.uri).get_model_version(registry.model_name, made.number)
    assert (made.number, version.run_id) == ("1", run_id)
    assert (version.description, version.tags["eps"]) == ("the first", "8/255")
    assert version.tags[DIGEST_TAG] == hashlib.sha256(shipped.onnx.read_bytes()).hexdigest()
    assert known(registry, shipped.identity("card.md")).number == "1" and known(registry, {}) is None
    assert known(registry, shipped.identity() | {"parapet.sha256.model.safetensors": "0" * 64}) is None

    folder = download(registry, made, tmp_path / "back")
    assert (folder / "model.onnx").read_bytes() == shipped.onnx.read_bytes()
    assert (folder / "card.md").read_text() == "the card"
    assert "onnxruntime==" in (folder / "requirements.txt").read_text()
    # It answers for any number of images, and so does what MLflow itself finds by the version's name.
    mlflow.set_tracking_uri(registry.uri)
    try:
        for place in (str(folder), f"models:/{registry.model_name}/1"):
            model = mlflow.pyfunc.load_model(place)
            assert model.predict(np.ones((3, 1, 4, 4), np.float32))["logits"].tolist() == [[2.0, 0.0]] * 3
    finally:
        mlflow.set_tracking_uri(None)


def test_a_try_that_was_killed_after_the_upload_is_not_uploaded_again(story, registry, tmp_path):
    shipped = shipment(tmp_path, 1.0, story)
    assert register(registry, shipped, {}, "").number == "1"
    registry.delete("1")
    assert register(registry, shipped, {}, "").number == "2"
    client = connect(registry.uri)
    experiment = client.get_experiment_by_name(story.experiment).experiment_id
    assert len(client.search_logged_models([experiment])) == 1


def test_a_run_that_the_server_does_not_know_is_no_obstacle(story, sqlite_uri, tmp_path):
    registry = Registry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    shipped = shipment(tmp_path, 1.0, story, "f" * 32, card="the card")
    assert register(registry, shipped, {}, "").run_id is None
    attach(sqlite_uri, "f" * 32, shipped.files, "card")


def test_cards_lie_with_the_run(story, sqlite_uri, tmp_path):
    run_id = run_of(story, sqlite_uri)
    attach(sqlite_uri, run_id, shipment(tmp_path, 1.0, story, card="the card").files, "card")
    assert [file.path for file in connect(sqlite_uri).list_artifacts(run_id, "card")] == ["card/card-1.0.md"]


def test_a_description_that_mlflow_could_not_keep_everywhere_is_cut(story, sqlite_uri, tmp_path):
    registry = Registry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    register(registry, shipment(tmp_path, 1.0, story), {}, "x" * 6000)
    description = connect(sqlite_uri).get_model_version(registry.model_name, "1").description
    assert len(description) == 5000 and description.endswith("…")


@pytest.mark.parametrize("name", ["model.onnx", "card.md"])
def test_a_registered_file_that_was_changed_is_told(story, sqlite_uri, tmp_path, name):
    registry = Registry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    made = register(registry, shipment(tmp_path, 1.0, story, card="the card"), {}, "")
    back = download(registry, made, tmp_path / "back")
    stored, = Path(story.artifact_root).rglob(name)
    whole = stored.read_bytes()
    stored.write_bytes(whole + b"\0")
    with pytest.raises(WorkError, match=f"version 1 of model .* is damaged: its {name} is not the file that was"):
        download(registry, made, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    # What was brought before is looked at again, and brought anew where it is no longer what it was.
    assert download(registry, made, back) == back
    (back / name).write_bytes(b"")
    stored.write_bytes(whole)
    assert (download(registry, made, back) / name).read_bytes() == whole


def test_a_version_is_withdrawn_with_its_model_unless_another_needs_it(story, sqlite_uri, tmp_path):
    registry, other = Registry(sqlite_uri, f"model {story.id}"), Registry(sqlite_uri, f"other {story.id}")
    client, shipped = connect(sqlite_uri), shipment(tmp_path, 1.0, story)
    for place in (registry, other):
        place.create_model()
    made, again = register(registry, shipped, {}, ""), register(other, shipped, {}, "")
    experiment = client.get_experiment_by_name(story.experiment).experiment_id
    withdraw(registry, made)
    assert registry.version("1") is None and len(client.search_logged_models([experiment])) == 1
    withdraw(other, again)
    assert other.version("1") is None and list(client.search_logged_models([experiment])) == []


def test_a_copy_has_the_tags_and_the_bytes_of_its_source(story, registry, tmp_path, capfd):
    shipped = shipment(tmp_path, 1.0, story)
    made = register(registry, shipped, {"eps": "8/255"}, "the first")
    there = Registry(registry.uri, f"{registry.model_name} prod")
    copied = copy(registry, made, there)
    assert (copied.number, copied.tags["eps"], known(there, file_tags(made.tags)).number) == ("1", "8/255", "1")
    assert (download(there, copied, tmp_path / "back") / "model.onnx").read_bytes() == shipped.onnx.read_bytes()
    assert capfd.readouterr().err == ""
