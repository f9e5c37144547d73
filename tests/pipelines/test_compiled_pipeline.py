"""The compiled pipeline: the same bytes every time, the golden file, and a graph that holds together."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from parapet.config import Params, load
from parapet.errors import InputError
from parapet.processes import train_job
from pipelines import promote
from pipelines.__main__ import main
from pipelines.compiling import compile_pipeline
from pipelines.layout import MAXIMUM_GENERATIONS, Layout
from pipelines.resources import Pod, Resources, Secret, Toleration
from pipelines.resources import load as load_resources
from pipelines.robust_search import build
from tests.pipelines.ir_graph import problems

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]
MLFLOW = "http://mlflow.parapet.svc:5000"
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
    """The pipeline by the C reader, which is ten times as fast; without what is for Kubernetes alone."""
    return next(iter(yaml.load_all(text, Loader=yaml.CSafeLoader)))


def on_kubernetes(text: str) -> dict:
    """What each executor asks of Kubernetes, by its name."""
    _, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def inside(spec: dict) -> dict:
    """The tasks before the one that tells the outcome."""
    return spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]


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
    large = dataclasses.replace(Params().search, population=16, generations=MAXIMUM_GENERATIONS)
    compile_pipeline(dataclasses.replace(Params(), search=large), "parapet:dev", tmp_path / "longest.yaml")
    assert problems(read((tmp_path / "longest.yaml").read_text())) == []
    # etcd takes 1.5 MiB, and Argo writes some things twice.
    assert (tmp_path / "longest.yaml").stat().st_size < 400_000


def test_a_longer_search_is_refused_with_the_limit():
    with pytest.raises(InputError, match=r"search\.generations is 9, .* at most 8 .*; lower it"):
        build(with_generations(MAXIMUM_GENERATIONS + 1), "parapet:dev")


def test_every_generation_is_a_loop_of_three_steps_that_is_gathered(spec):
    tasks = inside(spec)
    assert [name for name in tasks if name.startswith("for-loop")] == ["for-loop-2", "for-loop-3"]
    for place, loop in enumerate(("for-loop-2", "for-loop-3"), 1):
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
    "and waits for nothing": lambda spec: spec["root"]["dag"]["tasks"]["outcome"].pop("dependentTasks"),
    "from where nothing makes it": lambda spec: artifact(spec, "front", "archive").update(outputArtifactKey="ghost"),
    "does not wait for candidates-3": lambda spec: task(spec, "front")["dependentTasks"].remove("candidates-3"),
    "is not given its archive": lambda spec: task(spec, "front")["inputs"]["artifacts"].pop("archive"),
    "takes archive as": lambda spec: artifact(spec, "front", "archive").update(
        producerTask="data-prep", outputArtifactKey="dataset"),
    "in place of pipelinechannel--seed": lambda spec: task(spec, "for-loop-3")["inputs"]["parameters"].update(
        {"pipelinechannel--seed": {"taskOutputParameter": {"producerTask": "candidates-2",
                                                           "outputParameterKey": "Output"}}}),
}


def task(spec: dict, name: str) -> dict:
    return inside(spec)[name]


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
    search = dataclasses.replace(Params().search, evaluations=2)
    with pytest.raises(InputError, match="search.evaluations is given, and a search that is unrolled into tasks"):
        build(dataclasses.replace(Params(), search=search), "parapet:test")


def test_every_step_but_those_that_depend_on_the_world_may_be_cached(tmp_path):
    resources = Resources(layout=Layout(promote=True), mlflow_uri=MLFLOW)
    compile_pipeline(with_generations(1), "parapet:dev", tmp_path / "p.yaml", resources)
    spec = read((tmp_path / "p.yaml").read_text())
    tasks = {**spec["root"]["dag"]["tasks"], **inside(spec), **spec["components"]["comp-for-loop-2"]["dag"]["tasks"]}
    cached = {name for name, found in tasks.items() if found.get("cachingOptions", {}).get("enableCache")}
    groups = {"exit-handler-1", "for-loop-2"}
    assert set(tasks) - cached - groups == {"promotion", "outcome"}


@pytest.mark.parametrize("layout", [Layout(batch=2), Layout(generations_per_task=3), Layout(continue_from="s3://b/a"),
                                    Layout(generations_per_task=5, continue_from="s3://b/a", promote=True)], ids=str)
def test_other_layouts_hold_together_and_have_the_tasks_they_say(layout, tmp_path):
    params = with_generations(5)
    compile_pipeline(params, "parapet:dev", tmp_path / "p.yaml", Resources(layout=layout, mlflow_uri=MLFLOW))
    spec = read((tmp_path / "p.yaml").read_text())
    assert problems(spec) == []
    tasks = inside(spec)
    loops = [name for name in tasks if name.startswith("for-loop")]
    bodies = [spec["components"][f"comp-{name}"]["dag"]["tasks"] for name in loops]
    turns = 0 if layout.generations_per_task else -(-params.search.population // layout.batch) if layout.batch \
        else params.search.population
    whole = 1 + len(tasks) - len(loops) + sum(turns * len(body) for body in bodies)
    importers, undefended = bool(layout.continue_from), 0
    if loops and not layout.continue_from:
        undefended = len(bodies[0]) if not layout.batch else -(-9 // layout.batch) - turns
    assert layout.tasks(params) == whole + undefended - importers
    assert layout.pods(params) == 2 * layout.tasks(params) + len(loops)


def test_the_pipeline_promote_holds_together_and_is_the_same_every_time(tmp_path):
    (tmp_path / "cluster.yaml").write_text(f"mlflow_uri: {MLFLOW}\n")
    command = ["compile", "--pipeline", "promote", "--assembled", "s3://bucket/assembled", "--params",
               str(GOLDEN / "params.yaml"), "--cluster", str(tmp_path / "cluster.yaml"), "--out"]
    for name in ("once", "again"):
        assert main([*command, str(tmp_path / name)]) == 0
    text = (tmp_path / "once").read_text()
    assert text == (tmp_path / "again").read_text()
    spec = read(text)
    assert problems(spec) == []
    tasks = {**spec["root"]["dag"]["tasks"], **inside(spec)}
    assert set(tasks) == {"exit-handler-1", "outcome", "data-prep", "importer", "promotion"}
    assert not tasks["promotion"]["cachingOptions"].get("enableCache")
    assert "retryPolicy" not in tasks["promotion"]  # one that was refused would be refused again
    # Each run attacks the graphs with a seed of its own.
    assert tasks["promotion"]["inputs"]["parameters"]["occasion"]["runtimeValue"]["constant"] == (
        "{{$.pipeline_job_uuid}}")


def test_what_is_asked_of_kubernetes_comes_from_one_file(tmp_path):
    (tmp_path / "cluster.yaml").write_text("""
training: {cpus: 4, memory: 16Gi, gpus: 2, hours: 1.5}
node_selectors: {nvidia.com/gpu.product: H100}
tolerations: [{key: gpu, operator: Equal, value: "yes"}]
shared_memory: 1Gi
queue: night
mlflow_uri: https://mlflow.parapet.svc:5000
mlflow_ca: mlflow-ca
log: json
secrets: [{name: mlflow-client, variables: {MLFLOW_TRACKING_PASSWORD: password}}]
workspace: 20Gi
storage_class: fast
""")
    resources = load_resources(tmp_path / "cluster.yaml")
    assert resources.tolerations == (Toleration("gpu", "Equal", "yes"),)
    assert resources.secrets == (Secret("mlflow-client", {"MLFLOW_TRACKING_PASSWORD": "password"}),)
    compile_pipeline(with_generations(1), "parapet:dev", tmp_path / "p.yaml", resources)
    text = (tmp_path / "p.yaml").read_text()
    training, front = (on_kubernetes(text)[f"exec-{name}"] for name in ("training", "front"))
    assert training["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "night"}
    assert "podMetadata" not in front  # it works for seconds, and a full queue would keep it from the end of the run
    for executor in (training, front):
        assert executor["securityContext"] == {"runAsNonRoot": True, "runAsUser": "1000"}
        assert executor["configMapAsVolume"] == [{
            "configMapName": "mlflow-ca", "configMapNameParameter": {"runtimeValue": {"constant": "mlflow-ca"}},
            "mountPath": "/etc/mlflow-ca", "optional": False}]
        [secret] = executor["secretAsEnv"]
        assert secret["keyToEnv"][0]["envVar"] == "MLFLOW_TRACKING_PASSWORD"
    assert training["activeDeadlineSeconds"] == "5400"
    assert training["emptyDirMounts"] == [{"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "1Gi",
                                           "volumeName": "dshm"}]
    assert training["nodeSelector"]["labels"] == {"nvidia.com/gpu.product": "H100"}
    assert training["tolerations"][0]["key"] == "gpu"
    assert not {"emptyDirMounts", "nodeSelector", "tolerations"} & set(front)
    container = read(text)["deploymentSpec"]["executors"]["exec-training"]["container"]
    assert container["resources"]["accelerator"]["resourceCount"] == "2"
    assert container["env"] == [{"name": "MLFLOW_TRACKING_URI", "value": "https://mlflow.parapet.svc:5000"},
                                {"name": "MLFLOW_TRACKING_SERVER_CERT_PATH", "value": "/etc/mlflow-ca/ca.crt"},
                                {"name": "PARAPET_LOG", "value": "json"}]
    assert "20Gi" in text and "storageClassName: fast" in text


@pytest.mark.parametrize(("text", "sentence"), [
    ("trainnig: {}", "trainnig is not a known key; did you mean training?"),
    ("training: {gpus: 99}", "training.gpus is 99; allowed is from 0 to 16."),
    ("layout: {batch: -1}", "layout.batch is -1; allowed is from 0 to 1000."),
    ("node_selectors: [a]", "node_selectors is ['a'], and it must map names to texts."),
    ("secrets: [{name: a}]", "a secret has no name or no variables; write for example"),
    ("training: {memory: lots}", "the memory of a pod is 'lots'; write for example 8Gi."),
    ("workspace: 010Gi", "workspace is '010Gi'; write for example 10Gi."),
    ("shared_memory: 10k", "shared_memory is '10k'; write for example 10Gi."),
    ("mlflow_ca: Bad Name!", "mlflow_ca is 'Bad Name!', which cannot be a name in Kubernetes"),
    ("training_runtime: Bad Name!", "training_runtime is 'Bad Name!', which cannot be a name in Kubernetes"),
    ("a: [", "cannot be read as plain YAML: at line 1, column 5"),
])
def test_each_mistake_in_the_cluster_file_has_its_sentence(text, sentence, tmp_path):
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_resources(tmp_path / "cluster.yaml")
    assert sentence in str(caught.value) and str(tmp_path / "cluster.yaml") in str(caught.value)


@pytest.mark.parametrize(("layout", "search", "sentence"), [
    (Layout(batch=2, generations_per_task=2), {}, "layout.batch and layout.generations_per_task are both given"),
    (Layout(generations_per_task=2), {"generations": 40}, "which makes 20 tasks of 40 generations, .* set it to 5"),
    (Layout(generations_per_task=2), {"budget": "2 hours"}, "search.budget is '2 hours', and a run that is cut"),
    (Layout(promote=True), {}, "layout.promote is true and mlflow_uri is not given"),
])
def test_a_layout_that_cannot_be_is_refused(layout, search, sentence):
    params = dataclasses.replace(Params(), search=dataclasses.replace(Params().search, **search))
    with pytest.raises(InputError, match=sentence):
        build(params, "parapet:test", layout=layout)


def test_rounds_beside_generations_need_tasks_that_search_by_themselves():
    search = dataclasses.replace(Params().search, evaluations=2)
    build(dataclasses.replace(Params(), search=search), "parapet:test", layout=Layout(generations_per_task=4))


def with_gpus(count: int, device: str = "cuda") -> Params:
    return dataclasses.replace(with_generations(1, device), training=dataclasses.replace(Params().training, gpus=count))


def test_a_candidate_on_several_cards_is_a_train_job_and_its_task_only_waits(tmp_path):
    resources = Resources(training=Pod(cpus=8, memory="32Gi", gpus=4, hours=2), training_runtime="parapet-torch",
                          queue="night", node_selectors={"gpu": "h100"})
    compile_pipeline(with_gpus(8), "parapet:dev", tmp_path / "p.yaml", resources)
    spec = read((tmp_path / "p.yaml").read_text())
    job = train_job.TrainJobSpec(**json.loads(
        spec["root"]["inputDefinitions"]["parameters"]["train_job"]["defaultValue"]))
    assert (job.runtime, job.nodes, job.processes, job.seconds) == ("parapet-torch", 2, 4, 7200)
    assert (job.device, job.shared_memory, job.user) == ("cuda", "2Gi", 1000)
    assert job.resources == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}
    assert job.queue == "night" and job.node_selectors == {"gpu": "h100"}
    assert job.tolerations == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    asked = spec["deploymentSpec"]["executors"]["exec-training"]["container"]["resources"]
    assert "accelerator" not in asked and asked["resourceCpuLimit"] == "1"
    training = on_kubernetes((tmp_path / "p.yaml").read_text())["exec-training"]
    # Every attempt of the job, and a day in the queue.
    assert training["activeDeadlineSeconds"] == str(3600 * (2 * Params().search.attempts + 24))
    # Tasks that wait must not fill the queue that the jobs wait in.
    assert not {"podMetadata", "nodeSelector", "tolerations", "emptyDirMounts"} & set(training)
    assert problems(spec) == []


@pytest.mark.parametrize("count", [1, 2])
def test_without_a_runtime_the_task_itself_trains(count, tmp_path):
    resources = Resources(training=Pod(cpus=2, memory="8Gi", gpus=2))
    assert resources.train_job(with_gpus(count)) == ""
    compile_pipeline(with_gpus(count), "parapet:dev", tmp_path / "p.yaml", resources)
    container = read((tmp_path / "p.yaml").read_text())["deploymentSpec"]["executors"]["exec-training"]["container"]
    assert container["resources"]["accelerator"]["resourceCount"] == "2"


def test_a_train_job_on_cpus_asks_for_no_card():
    without = Resources(training_runtime="parapet-torch", training=Pod(cpus=2, memory="8Gi"))
    for resources, device in ((Resources(training_runtime="parapet-torch"), "cpu"), (without, "auto")):
        spec = json.loads(resources.train_job(with_gpus(2, device)))
        assert (spec["nodes"], spec["processes"], spec["device"]) == (2, 1, "cpu")
        assert spec["resources"] == {"cpu": "2", "memory": "8Gi"} and spec["node_selectors"] is None


@pytest.mark.parametrize(("resources", "sentence"), [
    (Resources(), r"training.gpus is 4, and a pod of the step training has 1 of them; give it training: \{gpus: 4\}"),
    (Resources(training_runtime="r", layout=Layout(batch=2)), "a pod of the step measure has 1 of them"),
    (Resources(training_runtime="r", layout=Layout(generations_per_task=2)), "a pod of the step search has 1 of them"),
    (Resources(training_runtime="r", workspace_access="ReadWriteOnce"), "set it to ReadWriteMany"),
    (Resources(training_runtime="r", training=Pod(gpus=3)), "have 3 each, which does not divide it; change one")])
def test_cards_that_no_pod_has_are_refused(resources, sentence):
    with pytest.raises(InputError, match=sentence):
        build(with_gpus(4), "parapet:test", resources)


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_champion_is_attacked_on_what_the_pod_of_the_promotion_has(gpus, tmp_path):
    resources = Resources(mlflow_uri=MLFLOW, promotion=dataclasses.replace(CPU_POD, gpus=gpus),
                          layout=Layout(promote=True))
    compile_pipeline(with_generations(1), "parapet:dev", tmp_path / "p.yaml", resources)
    spec = read((tmp_path / "p.yaml").read_text())
    assert spec["root"]["inputDefinitions"]["parameters"]["device"]["defaultValue"] == "cuda"
    told = inside(spec)["promotion"]["inputs"]["parameters"]["device"]
    asked = spec["deploymentSpec"]["executors"]["exec-promotion"]["container"]["resources"]
    assert ("accelerator" in asked) == bool(gpus)
    assert told == ({"componentInputParameter": "pipelinechannel--device"} if gpus else
                    {"runtimeValue": {"constant": "cpu"}})


def test_a_promotion_without_a_registry_is_refused():
    with pytest.raises(InputError, match="mlflow_uri is not given, and a promotion needs a model registry"):
        promote.build(Params(), "parapet:test", Resources(), "minio://front")
