"""The registry on a real MLflow: one version per file, aliases that move, refusals in one sentence."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from parapet.errors import InputError, WorkError
from parapet.tracking import flush, registry
from parapet.tracking.connection import connect

EXAMPLE = np.zeros((2, 1, 4, 4), np.float32)


def write_model(path: Path, bias: float) -> Path:
    """Mean over the pixels plus a bias, as two logits; any number of images."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]),
         helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"])],
        "tiny", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("weight", TensorProto.FLOAT, [16, 2], [1 / 16] * 32),
         helper.make_tensor("bias", TensorProto.FLOAT, [2], [bias, -bias])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, path)
    return path


@pytest.fixture
def name(story) -> str:
    return f"model {story.id}"


def test_the_same_file_gets_the_same_version_and_another_file_the_next(story, sqlite_uri, name, tmp_path):
    story.tell()
    flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root)
    run_id = story.parents(sqlite_uri)[0].info.run_id
    first, second = write_model(tmp_path / "a.onnx", 1.0), write_model(tmp_path / "b.onnx", 2.0)
    for _ in range(2):
        assert registry.register(sqlite_uri, name, first, run_id, {"eps": "8/255"}, "the first", EXAMPLE) == "1"
    assert registry.register(sqlite_uri, name, second, run_id, {}, "", EXAMPLE) == "2"
    client = connect(sqlite_uri)
    version = client.get_model_version(name, "1")
    assert (version.run_id, version.description, version.tags["eps"]) == (run_id, "the first", "8/255")
    assert version.tags[registry.DIGEST_TAG] == hashlib.sha256(first.read_bytes()).hexdigest()

    # What was registered is the file that was measured, and it answers for any number of images.
    import mlflow

    mlflow.set_tracking_uri(sqlite_uri)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path / "back")))
    assert (folder / "model.onnx").read_bytes() == first.read_bytes()
    assert "onnxruntime==" in (folder / "requirements.txt").read_text()
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert model.predict(np.ones((3, 1, 4, 4), np.float32))["logits"].tolist() == [[2.0, 0.0]] * 3
    mlflow.set_tracking_uri(None)


def test_a_model_without_a_run_belongs_to_the_experiment(story, sqlite_uri, name, tmp_path):
    model = write_model(tmp_path / "a.onnx", 1.0)
    options = {"experiment": story.experiment, "artifact_root": story.artifact_root}
    assert registry.register(sqlite_uri, name, model, None, {}, "", EXAMPLE, **options) == "1"
    # A kill after the upload: the model is there and the version is not.
    connect(sqlite_uri).delete_model_version(name, "1")
    assert registry.register(sqlite_uri, name, model, None, {}, "", EXAMPLE, **options) == "2"
    client = connect(sqlite_uri)
    experiment = client.get_experiment_by_name(story.experiment).experiment_id
    assert len(client.search_logged_models([experiment])) == 1


def test_the_champion_moves_and_the_one_before_is_kept(story, sqlite_uri, name, tmp_path):
    assert registry.champion(sqlite_uri, name) is None
    options = {"experiment": story.experiment, "artifact_root": story.artifact_root}
    for index in (1, 2):
        registry.register(sqlite_uri, name, write_model(tmp_path / f"{index}.onnx", index), None,
                          {"robust": str(index)}, "", EXAMPLE, **options)
    assert registry.champion(sqlite_uri, name) is None
    registry.set_alias(sqlite_uri, name, "challenger", "2")
    for version in ("1", "2", "2"):
        registry.move_champion(sqlite_uri, name, version)
    found = registry.champion(sqlite_uri, name)
    assert (found["version"], found["tags"]["robust"], found["run_id"]) == ("2", "2", None)
    client = connect(sqlite_uri)
    assert {alias: str(client.get_model_version_by_alias(name, alias).version)
            for alias in ("champion", "previous", "challenger")} == {
        "champion": "2", "previous": "1", "challenger": "2"}
    with pytest.raises(WorkError, match="refused"):
        registry.move_champion(sqlite_uri, name, "9")
    assert registry.champion(sqlite_uri, name)["version"] == "2"


@pytest.mark.parametrize("bad", ["", " ", "a/b", "models:/x", "..", "it's", "x" * 201, "a\nb"])
def test_names_that_a_registry_refuses_are_wrong_input(sqlite_uri, bad):
    with pytest.raises(InputError, match="cannot name a registered model; use up to 200 letters"):
        registry.champion(sqlite_uri, bad)


@pytest.mark.parametrize("bad", ["", "v3", "Latest", "a b", "a/b"])
def test_aliases_that_a_registry_refuses_are_wrong_input(sqlite_uri, bad):
    with pytest.raises(InputError, match="cannot be an alias"):
        registry.set_alias(sqlite_uri, "model", bad, "1")


def test_a_registry_that_is_away_is_one_sentence(free_port, tmp_path):
    uri = f"http://me:secret@127.0.0.1:{free_port}"
    model = write_model(tmp_path / "a.onnx", 1.0)
    for call in (lambda: registry.register(uri, "m", model, None, {}, "", EXAMPLE),
                 lambda: registry.champion(uri, "m"), lambda: registry.move_champion(uri, "m", "1")):
        with pytest.raises(WorkError) as caught:
            call()
        assert str(caught.value) == f"MLflow at http://127.0.0.1:{free_port} is away: connection refused."


def test_a_server_registers_too(story, server, name, tmp_path):
    model = write_model(tmp_path / "a.onnx", 1.0)
    for _ in range(2):
        assert registry.register(server.uri, name, model, None, {}, "", EXAMPLE, experiment=story.experiment) == "1"
    registry.move_champion(server.uri, name, "1")
    assert registry.champion(server.uri, name)["version"] == "1"
