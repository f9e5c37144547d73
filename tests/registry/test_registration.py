"""What is registered is what was measured: the bytes, what lies beside them, once, and the same after a copy."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from parapet.errors import WorkError
from parapet.registry import contents
from parapet.registry.contents import DIGEST_TAG, Damaged, download, file_tags
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.registration import attach, copy, known, register
from parapet.tracking import flush
from parapet.tracking.connection import connect
from tests.tracking.tiny_models import package


@pytest.fixture(params=["sqlite", "server"])
def registry(story, request) -> MlflowRegistry:
    uri = request.getfixturevalue("sqlite_uri") if request.param == "sqlite" else request.getfixturevalue("server").uri
    found = MlflowRegistry(uri, f"model {story.id}")
    found.create_model()
    return found


def run_of(story, uri: str) -> str:
    story.tell()
    flush(story.outbox, uri, story.experiment, None if uri.startswith("http") else story.artifact_root)
    return story.parents(uri)[0].info.run_id


def test_a_version_is_the_file_that_was_measured_and_what_lies_beside_it(story, registry, tmp_path):
    import mlflow

    run_id = run_of(story, registry.uri)
    packed = package(tmp_path, 1.0, story, run_id, card="the card")
    assert known(registry, packed.digests) is None
    made = register(registry, packed, {"eps": "8/255"}, "the first")
    version = connect(registry.uri).get_model_version(registry.model_name, made.number)
    assert (made.number, version.run_id) == ("1", run_id)
    assert (version.description, version.tags["eps"]) == ("the first", "8/255")
    assert version.tags[DIGEST_TAG] == hashlib.sha256(packed.onnx.read_bytes()).hexdigest()
    assert known(registry, packed.identity("card.md")).number == "1" and known(registry, {}) is None
    assert known(registry, packed.identity() | {"parapet.sha256.model.safetensors": "0" * 64}) is None

    folder = download(registry, made, tmp_path / "back")
    assert (folder / "model.onnx").read_bytes() == packed.onnx.read_bytes()
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
    packed = package(tmp_path, 1.0, story)
    assert register(registry, packed, {}, "").number == "1"
    registry.delete("1")
    assert register(registry, packed, {}, "").number == "2"
    client = connect(registry.uri)
    experiment = client.get_experiment_by_name(story.experiment).experiment_id
    assert len(client.search_logged_models([experiment])) == 1


def test_a_run_that_the_server_does_not_know_is_no_obstacle(story, sqlite_uri, tmp_path):
    registry = MlflowRegistry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    packed = package(tmp_path, 1.0, story, "f" * 32, card="the card")
    assert register(registry, packed, {}, "").run_id is None
    attach(sqlite_uri, "f" * 32, packed.files, "card")


def test_cards_lie_with_the_run(story, sqlite_uri, tmp_path):
    run_id = run_of(story, sqlite_uri)
    attach(sqlite_uri, run_id, package(tmp_path, 1.0, story, card="the card").files, "card")
    assert [file.path for file in connect(sqlite_uri).list_artifacts(run_id, "card")] == ["card/card-1.0.md"]


def test_a_description_that_mlflow_could_not_keep_everywhere_is_cut(story, sqlite_uri, tmp_path):
    registry = MlflowRegistry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    register(registry, package(tmp_path, 1.0, story), {}, "x" * 6000)
    description = connect(sqlite_uri).get_model_version(registry.model_name, "1").description
    assert len(description) == 5000 and description.endswith("…")


def stored(story, registry: MlflowRegistry) -> Path:
    """The folder where the store of artifacts keeps the one version."""
    model = connect(registry.uri).get_model_version(registry.model_name, "1").tags["parapet.logged_model"]
    [found] = [path.parent for path in story.artifact_root.rglob("MLmodel") if model in path.parts]
    return found


@pytest.mark.parametrize("name", ["model.onnx", "card.md", "MLmodel", "requirements.txt", "conda.yaml"])
def test_a_registered_file_that_was_changed_or_removed_is_told(story, registry, tmp_path, name):
    made = register(registry, package(tmp_path, 1.0, story, card="the card"), {}, "")
    back = download(registry, made, tmp_path / "back")
    place = stored(story, registry) / name
    whole = place.read_bytes()
    for damage, why in ((lambda: place.write_bytes(whole + b"\0"), "is not the file that was registered"),
                        (place.unlink, "is missing")):
        damage()
        with pytest.raises(Damaged) as caught:
            download(registry, made, tmp_path / "again")
        assert str(caught.value) == (f"version 1 of {registry.model_name} is damaged: its {name} {why}; promote that "
                                     "candidate again.")
        assert not (tmp_path / "again").exists() and known(registry, file_tags(made.tags)) is None
    # What was brought before is looked at again, and brought anew where it is no longer what it was.
    assert download(registry, made, back) == back
    (back / name).write_bytes(b"")
    place.write_bytes(whole)
    assert (download(registry, made, back) / name).read_bytes() == whole


@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_was_added_is_told(story, registry, tmp_path, older):
    made = register(registry, package(tmp_path, 1.0, story, card="the card"), {}, "")
    if older:  # those of older Parapets have no digests of what MLflow writes
        for name in ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"):
            connect(registry.uri).delete_model_version_tag(registry.model_name, "1", f"parapet.sha256.{name}")
        made = registry.version("1")
    download(registry, made, tmp_path / "back")
    code = stored(story, registry) / "code"
    code.mkdir()
    (code / "evil.py").write_text("print('here')")
    with pytest.raises(Damaged, match="version 1 of .* is damaged: its code/evil.py was not registered with it"):
        download(registry, made, tmp_path / "again")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError(
    f"##### File artifacts/model.onnx ##### [Errno 28] No space left on device: '{tempfile.gettempdir()}/model.onnx'")])
def test_a_full_disk_is_no_damage_of_what_was_registered(story, sqlite_uri, tmp_path, monkeypatch, error):
    registry = MlflowRegistry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    made = register(registry, package(tmp_path, 1.0, story), {}, "")

    def full(*_):
        raise error
    monkeypatch.setattr(contents, "fetch", full)
    for look in (lambda: download(registry, made, tmp_path / "back"),
                 lambda: contents.is_whole(sqlite_uri, "models:/x/1", made.tags)):
        with pytest.raises(WorkError, match="the disk is full.*; free some space and run the same command again"):
            look()


def test_files_that_are_gone_are_one_whole_sentence_and_are_registered_anew(story, sqlite_uri, tmp_path):
    registry = MlflowRegistry(sqlite_uri, f"model {story.id}")
    registry.create_model()
    packed = package(tmp_path, 1.0, story)
    made = register(registry, packed, {}, "")
    shutil.rmtree(story.artifact_root)
    with pytest.raises(Damaged) as caught:
        download(registry, made, tmp_path / "back")
    told = str(caught.value)
    assert told.startswith(f"the files of version 1 of {registry.model_name} cannot be brought from file://")
    assert "No such" in told and told.endswith("; put them back there, or promote that candidate again.")
    again = register(registry, packed, {}, "")
    assert known(registry, packed.identity()).number == again.number == "2"
    assert (download(registry, again, tmp_path / "back") / "model.onnx").read_bytes() == packed.onnx.read_bytes()


def test_a_version_is_withdrawn_with_its_model_unless_another_needs_it(story, sqlite_uri, tmp_path):
    registry, other = MlflowRegistry(sqlite_uri, f"model {story.id}"), MlflowRegistry(sqlite_uri, f"other {story.id}")
    client, packed = connect(sqlite_uri), package(tmp_path, 1.0, story)
    for place in (registry, other):
        place.create_model()
    made, again = register(registry, packed, {}, ""), register(other, packed, {}, "")
    experiment = client.get_experiment_by_name(story.experiment).experiment_id
    registry.withdraw(made)
    assert registry.version("1") is None and len(client.search_logged_models([experiment])) == 1
    other.withdraw(again)
    assert other.version("1") is None and list(client.search_logged_models([experiment])) == []


def test_a_copy_has_the_tags_and_the_bytes_of_its_source(story, registry, tmp_path, capfd):
    packed = package(tmp_path, 1.0, story)
    made = register(registry, packed, {"eps": "8/255"}, "the first")
    there = MlflowRegistry(registry.uri, f"{registry.model_name} prod")
    copied = copy(registry, made, there)
    assert (copied.number, copied.tags["eps"], known(there, file_tags(made.tags)).number) == ("1", "8/255", "1")
    assert (download(there, copied, tmp_path / "back") / "model.onnx").read_bytes() == packed.onnx.read_bytes()
    assert capfd.readouterr().err == ""
