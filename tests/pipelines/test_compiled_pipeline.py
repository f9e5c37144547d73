"""The compiled pipeline: the same bytes every time, the golden file, and a graph that holds together."""

import copy
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from parapet.config import Params, load
from parapet.errors import InputError
from pipelines.__main__ import main
from pipelines.compiling import compile_pipeline
from pipelines.resources import Pod, Resources
from pipelines.robust_search import MAXIMUM_GENERATIONS, build
from tests.pipelines.ir_graph import problems

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]
CPU_POD = Pod(cpus=2, memory="4Gi")
REFRESH = ("The compiled pipeline has changed. If it was meant to, write it again from the root of the repository and "
           "read the difference:\n  python -m pipelines compile --params tests/pipelines/golden/params.yaml "
           "--out tests/pipelines/golden/robust_search.yaml")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("compiled") / "robust_search.yaml"
    assert main(["compile", "--params", str(GOLDEN / "params.yaml"), "--out", str(path)]) == 0
    return path.read_text()


@pytest.fixture(scope="module")
def spec(compiled) -> dict:
    return read(compiled)


def read(text: str) -> Any:
    """YAML by the C reader, which is ten times as fast."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def with_generations(count: int, device: str = "auto") -> Params:
    return dataclasses.replace(Params(), device=device, search=dataclasses.replace(Params().search, generations=count))


def test_it_is_the_golden_pipeline(compiled):
    # A patch release of kfp changes its own version number and nothing else.
    ours, golden = ([line for line in text.splitlines() if not line.startswith("sdkVersion:")]
                    for text in (compiled, (GOLDEN / "robust_search.yaml").read_text()))
    assert ours == golden, REFRESH


def test_another_process_writes_the_same_bytes(compiled, tmp_path):
    path = tmp_path / "again.yaml"
    subprocess.run([sys.executable, "-m", "pipelines", "compile", "--params", GOLDEN / "params.yaml", "--out", path],
                   check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "7"}, stdout=subprocess.DEVNULL)
    assert path.read_text() == compiled


def test_its_graph_holds_together(spec):
    assert problems(spec) == []


def test_the_longest_pipeline_holds_together_and_fits_into_a_workflow_object(tmp_path):
    compile_pipeline(with_generations(MAXIMUM_GENERATIONS), "parapet:dev", tmp_path / "longest.yaml")
    assert problems(read((tmp_path / "longest.yaml").read_text())) == []
    assert (tmp_path / "longest.yaml").stat().st_size < 400_000  # etcd takes 1.5 MiB, and Argo writes some things twice


def test_a_longer_search_is_refused_with_the_limit():
    with pytest.raises(InputError, match=r"search\.generations is 9, .* at most 8 .*; lower it"):
        build(with_generations(MAXIMUM_GENERATIONS + 1), "parapet:dev")


def test_every_generation_is_a_loop_of_three_steps_that_is_gathered(spec):
    tasks = spec["root"]["dag"]["tasks"]
    assert [name for name in tasks if name.startswith("for-loop")] == ["for-loop-1", "for-loop-2"]
    for place, loop in enumerate(("for-loop-1", "for-loop-2"), 1):
        body = spec["components"][f"comp-{loop}"]["dag"]["tasks"]
        assert {name.removesuffix("-2") for name in body} == {"training", "attack-evaluation", "export"}
        assert tasks[loop]["iteratorPolicy"]["parallelismLimit"] == 2
        gathered = tasks[f"candidates-{place + 1}"]["inputs"]["artifacts"]
        assert {gathered[key]["taskOutputArtifact"]["producerTask"]
                for key in ("trained", "attacked", "exported")} == {loop}


def test_training_pods_ask_for_a_gpu_and_then_auto_means_cuda(spec):
    executors = spec["deploymentSpec"]["executors"]
    asking = {name for name, executor in executors.items() if "accelerator" in executor["container"]["resources"]}
    assert {name.removesuffix("-2") for name in asking} == {"exec-training", "exec-attack-evaluation",
                                                            "exec-full-evaluation"}
    assert spec["root"]["inputDefinitions"]["parameters"]["device"]["defaultValue"] == "cuda"


@pytest.mark.parametrize(("device", "resources"), [
    ("cpu", Resources()), ("auto", Resources(training=CPU_POD, attack_evaluation=CPU_POD, full_evaluation=CPU_POD))],
    ids=["device cpu", "no GPU pods"])
def test_without_a_gpu_nothing_asks_for_one(device, resources, tmp_path):
    compile_pipeline(with_generations(1, device), "parapet:dev", tmp_path / "cpu.yaml", resources)
    text = (tmp_path / "cpu.yaml").read_text()
    assert "accelerator" not in text
    assert read(text)["root"]["inputDefinitions"]["parameters"]["device"]["defaultValue"] == device


def test_the_image_is_the_one_that_was_named_and_nothing_is_installed_in_it(tmp_path):
    image = "registry.example/parapet@sha256:" + "0" * 64
    assert main(["compile", "--params", str(GOLDEN / "params.yaml"), "--image", image,
                 "--out", str(tmp_path / "named.yaml")]) == 0
    text = (tmp_path / "named.yaml").read_text()
    executors = read(text)["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}
    assert "pip install" not in text


PLANTED = {
    "refers to a component comp-ghost": lambda spec: task(spec, "front")["componentRef"].update(name="comp-ghost"),
    "waits for a task ghost": lambda spec: task(spec, "front")["dependentTasks"].append("ghost"),
    "has no executor exec-front": lambda spec: spec["deploymentSpec"]["executors"].pop("exec-front"),
    "goes round in a circle": lambda spec: task(spec, "data-prep").update(dependentTasks=["report"]),
    "from where nothing makes it": lambda spec: artifact(spec, "front", "archive").update(outputArtifactKey="ghost"),
    "does not wait for candidates-3": lambda spec: task(spec, "front")["dependentTasks"].remove("candidates-3"),
    "is not given its archive": lambda spec: task(spec, "front")["inputs"]["artifacts"].pop("archive"),
    "takes archive as": lambda spec: artifact(spec, "front", "archive").update(
        producerTask="data-prep", outputArtifactKey="dataset"),
    "in place of pipelinechannel--seed": lambda spec: task(spec, "for-loop-2")["inputs"]["parameters"].update(
        {"pipelinechannel--seed": {"taskOutputParameter": {"producerTask": "candidates-2",
                                                           "outputParameterKey": "Output"}}}),
}


def task(spec: dict, name: str) -> dict:
    return spec["root"]["dag"]["tasks"][name]


def artifact(spec: dict, name: str, key: str) -> dict:
    return task(spec, name)["inputs"]["artifacts"][key]["taskOutputArtifact"]


@pytest.mark.parametrize("sentence", PLANTED)
def test_the_check_finds_what_is_planted(spec, sentence):
    broken = copy.deepcopy(spec)
    PLANTED[sentence](broken)
    assert any(sentence in problem for problem in problems(broken)), problems(broken)


def test_a_parameter_file_that_is_wrong_gives_one_sentence_and_code_2(tmp_path, capsys):
    (tmp_path / "params.yaml").write_text("search: {generatoins: 2}")
    assert main(["compile", "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "out.yaml")]) == 2
    assert "did you mean search.generations?" in capsys.readouterr().err
    assert not (tmp_path / "out.yaml").exists()


def test_the_defaults_of_the_parameters_are_the_parameter_file(spec):
    defaults = {name: value.get("defaultValue") for name, value in
                spec["root"]["inputDefinitions"]["parameters"].items()}
    params = load(GOLDEN / "params.yaml")
    assert read(defaults["search"])["population"] == params.search.population
    assert defaults["seed"] == params.seed


def test_a_search_with_rounds_beside_its_generations_is_refused():
    search = dataclasses.replace(Params().search, looks=2)
    with pytest.raises(InputError, match="search.looks is given, and a search that is unrolled into tasks has one"):
        build(dataclasses.replace(Params(), search=search), "parapet:test")
