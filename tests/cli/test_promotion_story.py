"""From a finished search to a served prediction, against a real MLflow server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from parapet import cli
from parapet.data.dataset import Dataset
from parapet.deployment import runtime
from parapet.registry.mlflow_registry import MlflowRegistry
from tests import finished_search
from tests.tracking.refusing_server import refusing_server
from tests.tracking.registry_dump import dump


@pytest.fixture
def here(finished: Path, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a finished search and a registered model's name of its own."""
    shutil.copytree(finished, tmp_path / "artifacts")
    settings = {**finished_search.SETTINGS, "promotion": {
        "audit_images": 0, "model_name": f"shop {tmp_path.name}", "lock_seconds": 4}}
    (tmp_path / "params.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.fixture
def members(here: Path) -> dict[str, dict[str, Any]]:
    return dict(zip(("small", "large"), finished_search.members(here / "artifacts")))


@pytest.fixture
def registry(here: Path, server: Any) -> MlflowRegistry:
    return MlflowRegistry(server.uri, f"shop {here.name}")


@pytest.fixture
def served(here: Path) -> Iterator[Callable[[], tuple[str, subprocess.Popen]]]:
    """Begins `parapet serve champion` and gives its address and its process, which does not outlive the test."""
    process = None

    def begin() -> tuple[str, subprocess.Popen]:
        nonlocal process
        process = start("serve", "champion", "--port", "0")
        line = process.stdout.readline()
        return re.search(r"answers at (\S+);", line)[1], process
    yield begin
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "parapet.cli", *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, env=os.environ.copy())


def test_select_promote_refuse_roll_back_copy_and_serve(here, members, registry, served, capsys) -> None:
    small, large = members["small"]["id"], members["large"]["id"]

    def parapet(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    # a wish that nobody meets, and one that somebody does
    code, _, error = parapet("select", "robust_accuracy >= 99%, then fewest FLOPs")
    assert code == 2 and f"the nearest is {large}, which misses robust_accuracy >= 99% (it has " in error
    code, said, _ = parapet("select", "weights: robust_accuracy 1")
    assert code == 0 and said.startswith(f"{large}  plain 8x2 silu") and "the best of 2 members of the front" in said
    assert re.search(r"^test +clean \d+\.\d % \(.* %\), robust \d+\.\d % \(.* %\), n = 200$", said, re.MULTILINE)
    code, said, _ = parapet("select", "--json")
    assert json.loads(said)["candidate"]["id"] in (small, large)

    # the first champion, and a better one
    code, said, error = parapet("promote", "--candidate", small)
    assert (code, error) == (0, "") and f"version 1 of {registry.model_name} is now champion." in said
    code, said, error = parapet("promote", "--select", "weights: robust_accuracy 1")
    assert code == 0 and "not worse than version 1 on the same 200 test images" in said
    assert "version 2 of" in said and "`parapet rollback` restores version 1." in said
    assert registry.aliases() == {"champion": "2", "previous": "1", "challenger": "2"}

    # a worse one is refused, with the numbers, and nothing has changed
    before = dump(registry.uri)
    code, _, error = parapet("promote", "--candidate", small)
    assert code == 3 and error.startswith(f"parapet: {small} is not promoted, and {registry.model_name} is unchanged: ")
    assert "worse than the champion (version 2) in robust accuracy beyond noise: of 200 test images" in error
    assert dump(registry.uri) == before
    assert parapet("promotion", "--candidate", large)[1].endswith("as version 2; nothing was changed.\n")

    # back, and back again
    assert "version 1 of" in parapet("rollback")[1] and registry.aliases()["champion"] == "1"
    assert parapet("rollback")[0] == 0 and registry.aliases() == before[registry.model_name]["aliases"]

    # to another environment
    code, said, error = parapet("promote", "--to", f"{registry.model_name} prod")
    assert (code, error) == (0, "") and f"is now champion of {registry.model_name} prod, as its version 1" in said

    # and out into the world
    address, process = served()
    images = Dataset.open(here / "artifacts/dataset").split("test", limit=3).all()[0].numpy()
    answer = requests.post(f"{address}/invocations", json={"inputs": images.tolist()}, timeout=30)
    logits = np.array(answer.json()["predictions"]["logits"])
    expected = runtime.predict(runtime.session(here / "artifacts" / members["large"]["onnx"]), images)
    assert logits.argmax(1).tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert requests.post(f"{address}/invocations", json={"inputs": [[1, 2]]}, timeout=30).status_code == 400
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_wrong_input_is_one_sentence_and_exit_code_2(here, members, server, capsys, monkeypatch) -> None:
    def wrong(*arguments: str) -> str:
        assert cli.main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert error.startswith("parapet: ") and error.count("\n") == 1
        return error

    assert "has no version 'champion'; give the number of a version or one of its aliases: it has none yet" in \
        wrong("serve")
    assert "--port is 70000; it must lie in 0 to 65535." in wrong("serve", "--port", "70000")
    for verb, name in (("rollback", "a/b"), ("rollback", ""), ("serve", "")):
        assert f"{name!r} cannot name a registered model; use up to" in wrong(verb, "--model", name)
    assert "in which promotions wait" in wrong("rollback", "--model", f"shop {here.name}.promotion-lock")
    assert "'²' cannot be an alias of a model version" in wrong("serve", "²")
    assert f"has no version '{'9' * 30}'" in wrong("serve", "9" * 30)
    assert "has no version with the alias champion" in wrong("rollback")
    assert "'zz' is not the id of a member of the front" in wrong("promote", "--candidate", "zz")
    small = members["small"]["id"]
    assert (f"{small}-int8 is a variant of {small}, of whose robustness only an upper bound is known; promote {small}."
            in wrong("promote", "--candidate", f"{small}-int8"))
    onnx = here / "artifacts" / members["small"]["onnx"]
    onnx.write_bytes(onnx.read_bytes()[:1000])
    assert "it is damaged, and onnxruntime cannot load it" in wrong("promote", "--candidate", members["small"]["id"])
    with refusing_server(401, b"You are not authenticated.") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "refuses the credentials (401); set MLFLOW_TRACKING_USERNAME" in \
            wrong("promote", "--candidate", members["large"]["id"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "bogus://here")
    assert "MLFLOW_TRACKING_URI is bogus://here, where no model registry can be; use" in wrong("rollback")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/nowhere/mlflow.db")
    for arguments in (["rollback"], ["serve"], ["promote", "--to", "prod"]):
        assert "nowhere/mlflow.db, MLflow's database with the registered models, does not exist; promote a model " \
               "first" in wrong(*arguments)
    assert not (here / "nowhere").exists()
    front = here / "artifacts/front.json"
    for content, sentence in (('{"schema_version": 7}', "is damaged (it has no checksum); run"),
                              ("[]", "is damaged (it holds no JSON object); run"),
                              ('{"schema_version": 6}', "is damaged (it has no checksum); run"),
                              ('{"schema_version": 5}', "has schema version 5, and this Parapet reads versions 6 and "
                                                        "7; run")):
        front.write_text(content)
        assert sentence in wrong("select")
    front.unlink()
    assert "front.json does not exist; finish a search with `parapet run` first" in wrong("select")


@pytest.mark.slow
def test_two_promotions_at_once_end_with_the_better_model_as_champion(here, members, registry) -> None:
    # Both are attacked before, so that they come to the registry at the same time.
    settings = json.loads((here / "params.yaml").read_text())
    (here / "strict.yaml").write_text(json.dumps({**settings, "promotion": {
        **settings["promotion"], "minimum_robust_accuracy": 1.0}}))
    for member in members.values():
        assert start("promote", "--candidate", member["id"], "--params", "strict.yaml").wait(120) == 3
    pair = {name: start("promote", "--candidate", members[name]["id"]) for name in ("small", "large")}
    said = {name: process.communicate(timeout=120)[0] for name, process in pair.items()}
    codes = {name: process.returncode for name, process in pair.items()}
    assert sum("another promotion of" in text for text in said.values()) == 1, said
    waited = next(name for name, text in said.items() if "another promotion of" in text)
    assert codes == ({"small": 0, "large": 0} if waited == "large" else {"small": 3, "large": 0}), said
    assert registry.aliased("champion").tags["candidate"] == members["large"]["id"]


@pytest.mark.slow
def test_a_promotion_killed_before_the_gate_is_undone_and_the_next_one_goes_through(here, members, registry) -> None:
    assert start("promote", "--candidate", members["small"]["id"]).wait(60) == 0
    before = registry.aliases()
    dead = start("promote", "--candidate", members["large"]["id"])
    until = time.monotonic() + 60
    while registry.aliases() == before and time.monotonic() < until:
        time.sleep(0.1)
    dead.kill()
    dead.wait()
    left = registry.aliases()["challenger"]
    assert left != before["challenger"] and registry.aliases()["champion"] == before["champion"]
    again = start("promote", "--candidate", members["large"]["id"])
    said = again.communicate(timeout=120)[0]
    assert again.returncode == 0, said
    assert registry.version(left) is None and registry.aliases()["previous"] == before["champion"]
