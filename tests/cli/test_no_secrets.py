"""A secret in every place where one can be given, and then nowhere in what was written or printed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from parapet import cli
from parapet.disk.files import read_json
from pipelines import __main__ as pipelines
from tests import finished_search

ROOT = Path(__file__).parents[2]
# Each place has its own, so that a failure says which one came through.
URI, ROOTS, TITLE, MODEL, TOKEN, CLUSTER = (f"{place}Secret7x" for place in (
    "uri", "roots", "title", "model", "token", "cluster"))
SECRETS = (URI, ROOTS, TITLE, MODEL, TOKEN, CLUSTER)
Call = Callable[..., str]


@pytest.fixture
def here(finished: Path, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished search whose parameters, data and MLflow are given with secrets."""
    shutil.copytree(finished, tmp_path / "artifacts")
    data = tmp_path / f"data?token={ROOTS}"
    shutil.copytree(finished.parent / "data", data)
    settings = {**finished_search.SETTINGS, "data": {"root": data.name}, "report": {"title": f"to alice:{TITLE}@host"},
                "tracking": {"experiment": f"secrets {tmp_path.name}", "system_metrics_seconds": 0},
                "promotion": {"audit_images": 0, "model_name": f"secrets {tmp_path.name}",
                              "minimum_robust_accuracy": 0.0}}
    (tmp_path / "params.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARAPET_DATA", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_password(server.uri))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    return tmp_path


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a verb, looks for secrets in all that it says, and gives that back."""
    def called(code: int, *arguments: str, program: Callable[[list[str]], int] = cli.main) -> str:
        try:
            found = program(list(arguments))
        except SystemExit as end:
            found = end.code
        said = "\n".join(capfd.readouterr())
        assert found == code, said
        assert not [secret for secret in SECRETS if secret in said], said
        return said
    return called


def with_password(uri: str) -> str:
    return uri.replace("//", f"//alice:{URI}@")


def compiled(call: Call, code: int, cluster: dict[str, Any], *arguments: str, params: str = "clean.yaml") -> str:
    Path("cluster.yaml").write_text(json.dumps(cluster))
    return call(code, "compile", "--params", params, "--cluster", "cluster.yaml", "--out", "compiled/pipeline.yaml",
                "--image", "parapet@sha256:" + "0f" * 32, *arguments, program=pipelines.main)


def test_a_secret_in_every_place_comes_out_nowhere(here: Path, server: Any, call: Call,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    call(0, "run", "--out", "artifacts")
    call(0, "promote", "--select", "weights: robust_accuracy 1")
    call(0, "promote", "--to", f"secrets {here.name} prod")
    call(2, "rollback")
    call(0, "sync", "--cache", "artifacts/.parapet")

    front = read_json(here / "artifacts/front.json")
    assert front["mlflow"]["tracking_uri"] == server.uri
    page = (here / "artifacts/report/index.html").read_text()
    assert f'href="{server.uri}/#/experiments/' in page

    # a model, data and arguments
    folder = here / f"net?token={MODEL}"
    folder.mkdir()
    shutil.copyfile(here / "artifacts" / front["candidates"][0]["weights"], folder / "model.safetensors")
    shutil.copytree(here / "artifacts/dataset", folder / "dataset")
    call(0, "attack", "--model", f"{folder.name}/model.safetensors", "--data", f"{folder.name}/dataset", "--eps", "0.2",
         "--attacks", "fgsm", "--images", "20", "--out", "attacked")
    assert read_json(here / "attacked/evaluation.json")["model"] == "net?token=***"
    call(0, "train", "--recipe", "digits", "--data", f"{folder.name}/dataset", "--out", "trained", "--set",
         "training.epochs=1")
    for model in (f"https://alice:{MODEL}@host/net.pt2", f"alice:{MODEL}@host.nets:make", f"net.py?password={MODEL}"):
        call(2, "attack", "--model", model, "--data", f"https://alice:{MODEL}@host", "--eps", "0.2")
    call(2, "attack", f"--token={MODEL}", "--password", MODEL)
    call(2, "train", "--recipe", f"https://alice:{MODEL}@host/recipe.yaml")

    # nothing that was written holds one; what was given is all that does
    assert held(here, {"params.yaml"}) == {} and held(server.folder, set()) == {}


def test_an_mlflow_that_is_away_is_told_without_its_password(here: Path, call: Call,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    for uri, code in ((f"http://alice:{URI}@127.0.0.1:9", 1), (f"http://a:x@{URI}@127.0.0.1:9", 1),
                      (f"alice:{URI}@127.0.0.1:9", 2), (f"postgresql://alice:{URI}@127.0.0.1:9/x?password={URI}", 1),
                      (f"postgresql+psycopg://alice:{URI}@127.0.0.1:9/x", 1)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "127.0.0.1" in call(code, "rollback")
        call(0, "report", "--out", "artifacts", "--cache", "artifacts/.parapet")
    for uri in (f"http://a:x/{URI}@127.0.0.1:9", f"//alice:{URI}@127.0.0.1", f"http://alice:x {URI}@127.0.0.1:9",
                f"http://alice:[{URI}@127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for verb in ("rollback", "serve", "promote", "report", "sync"):
            assert "127.0.0.1" in call(2, verb)
    assert held(here, {"params.yaml"}) == {}


def test_a_pipeline_that_would_hold_one_is_refused_and_names_the_place(here: Path, call: Call) -> None:
    (here / "clean.yaml").write_text(json.dumps({"search": {"population": 2, "generations": 1}}))
    secrets = [{"name": "mlflow-client", "variables": {"MLFLOW_TRACKING_PASSWORD": "password"}}]
    compiled(call, 0, {"mlflow_uri": "http://mlflow:5000", "secrets": secrets})
    assert next(yaml.safe_load_all((here / "compiled/pipeline.yaml").read_text()))["pipelineInfo"]
    for uri in (f"http://alice:{CLUSTER}@mlflow:5000", f"http://mlflow:5000?password={CLUSTER}",
                f"alice:{CLUSTER}@mlflow"):
        assert ("mlflow_uri of the cluster file holds a password, a token or a key, and everybody who may see a run "
                "reads the compiled pipeline; leave it out, and let the pods have it from a Kubernetes secret"
                ) in compiled(call, 2, {"mlflow_uri": uri})
    assert "layout.continue_from of the cluster file holds a password" in compiled(
        call, 2, {"layout": {"continue_from": f"s3://KEY:{CLUSTER}@store/x", "generations_per_task": 1}})
    assert "--assembled of the arguments holds a password" in compiled(
        call, 2, {"mlflow_uri": "http://mlflow:5000"}, "--pipeline", "promote", "--assembled", f"s3://b/x?sig={CLUSTER}")
    assert "data.root of params.yaml holds a password" in compiled(call, 2, {}, params="params.yaml")
    assert held(here, {"params.yaml", "cluster.yaml"}) == {}


def held(folder: Path, given: set[str]) -> dict[str, str]:
    """The files below `folder`, but for those that were `given`, that hold a secret, and which."""
    found = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names if name not in given):
            content = path.read_bytes()
            found |= {str(path.relative_to(folder)): secret for secret in SECRETS if secret.encode() in content}
    return found
