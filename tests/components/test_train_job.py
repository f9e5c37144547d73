"""A candidate on several cards of a cluster: the TrainJob that is asked for, and what becomes of it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kfp.dsl import Dataset, Model

import components
from parapet.config import Params, parse
from parapet.disk.files import file_digest, read_json
from parapet.errors import InputError
from parapet.processes import train_job
from parapet.processes.train_job import TrainJobSpec
from parapet.steps import training
from parapet.store import results
from tests.components.component_sections import sections
from tests.components.trainer import CLAIM, IMAGE, NAMESPACE, Trainer, trainer
from tests.processes.test_launcher import asked
from tests.steps.tiny import TINY

SPEC = TrainJobSpec("parapet-torch", nodes=2, processes=1, device="cpu", resources={"cpu": "2", "memory": "8Gi"},
                seconds=600, shared_memory="1Gi", user=1234, queue="parapet")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The volume that the tasks of a run share."""
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


@pytest.fixture
def cluster(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    with trainer(shared, tmp_path) as (state, environment):
        for name, value in {**environment, "OMP_NUM_THREADS": "1"}.items():
            monkeypatch.setenv(name, value)
        yield state


def settings(**changes: Any) -> dict[str, Any]:
    return {**TINY, "device": "cpu", "training": {**TINY["training"], "gpus": 2, **changes}}


def test_the_component_has_a_train_job_do_it(digits_folder, cluster, shared, tmp_path) -> None:
    params = parse(Params, settings())
    proposal = asked(digits_folder, params)
    candidate = Model(uri=str(tmp_path / "candidate"))
    components.training.python_func(
        **sections("training", **settings()), locks="", workspace=str(shared), proposal=json.dumps(proposal.to_json()),
        dataset=Dataset(uri=str(digits_folder)), candidate=candidate,
        train_job=json.dumps({**SPEC.__dict__, "node_selectors": {"gpu": "h100"}, "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}))
    assert candidate.metadata == {"id": proposal.id, "status": "done"}
    # The same as two processes on one machine leave, bit for bit.
    training.run(params, proposal, digits_folder, tmp_path / "here")
    assert file_digest(tmp_path / "candidate" / results.WEIGHTS) == file_digest(tmp_path / "here" / results.WEIGHTS)
    assert cluster.jobs == {}  # it is deleted when it has done its work

    job, = cluster.seen
    assert job["metadata"]["namespace"] == NAMESPACE and job["metadata"]["ownerReferences"][0]["kind"] == "Workflow"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "parapet"
    asked_for = job["spec"]["trainer"]
    assert (asked_for["numNodes"], asked_for["numProcPerNode"], asked_for["image"]) == (2, 1, IMAGE)
    assert asked_for["resourcesPerNode"]["limits"] == {"cpu": "2", "memory": "8Gi"}
    pod = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0][
        "template"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": CLAIM}},
                              {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 1234}
    assert list((shared / "teams").iterdir()) == []  # what was taken over is not kept twice
    assert pod["containers"] == [{"name": "node", "volumeMounts": [{"name": "shared", "mountPath": str(shared)}]}]
    assert pod["nodeSelector"] == {"gpu": "h100"} and pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert pod["serviceAccountName"] == "parapet-pipeline"


def run(digits_folder: Path, shared: Path, out: Path, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    params, told = parse(Params, settings(**changes)), []
    found = train_job.run(params, asked(digits_folder, params).to_json(), digits_folder, out, shared=shared, spec=SPEC,
                          tell=told.append, pause=0.1)
    return found, told


def test_a_job_that_lost_a_machine_is_tried_again_and_goes_on(digits_folder, cluster, shared, tmp_path) -> None:
    def evict() -> None:
        """Kill one machine with all that runs on it, once there is a checkpoint."""
        until = time.monotonic() + 60
        while not list((shared / "checkpoints").rglob(results.CHECKPOINT)) and time.monotonic() < until:
            time.sleep(0.02)
        machine = psutil.Process(cluster.machines[1].pid)
        for process in [*machine.children(recursive=True), machine]:
            os.kill(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=evict)
    thread.start()
    found, told = run(digits_folder, shared, tmp_path / "out", epochs=40, validate_every=1)
    thread.join()
    assert found["status"] == "done" and len(found["curves"]) == 40
    assert [text.split()[2] for text in told] == ["is", "failed:", "is"] and len(cluster.seen) == 2
    assert "failed on 2 machines" in told[1]
    assert found["curves"][0]["time"] < found["started"] < found["curves"][-1]["time"]


def test_a_server_that_is_away_for_a_while_is_waited_for(digits_folder, cluster, shared, tmp_path) -> None:
    cluster.away = 5
    found, _ = run(digits_folder, shared, tmp_path / "out")
    assert found["status"] == "done" and cluster.away == 0 and len(cluster.seen) == 1


def test_a_task_that_is_tried_again_waits_for_the_job_that_is_there(digits_folder, cluster, shared, tmp_path) -> None:
    params = parse(Params, settings())

    def evicted(text: str) -> None:
        raise KeyboardInterrupt(text)
    with pytest.raises(KeyboardInterrupt, match="is created: 2 x 1 processes, attempt 1"):
        train_job.run(params, asked(digits_folder, params).to_json(), digits_folder, tmp_path / "first", shared=shared,
                      spec=SPEC, tell=evicted)
    found, told = run(digits_folder, shared, tmp_path / "second")
    assert found["status"] == "done" and found["id"] == asked(digits_folder, params).id
    assert "is there already; waiting for it" in told[0] and len(cluster.seen) == 1


def test_a_job_that_fails_every_time_is_an_infeasible_candidate(digits_folder, cluster, shared, tmp_path) -> None:
    cluster.broken = True
    found, told = run(digits_folder, shared, tmp_path / "out")
    assert found == read_json(tmp_path / "out" / results.TRAINING) and found["status"] == "infeasible"
    assert "failed: jobset failed on 2 machines" in found["reason"]
    assert len(cluster.seen) == Params().search.attempts and cluster.jobs == {}


def test_the_attempts_of_a_task_that_was_evicted_count(digits_folder, cluster, shared, tmp_path) -> None:
    params = parse(Params, settings())
    cluster.broken = True

    def evicted(text: str) -> None:
        if "failed" in text:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        train_job.run(params, asked(digits_folder, params).to_json(), digits_folder, tmp_path / "first", shared=shared,
                      spec=SPEC, tell=evicted, pause=0.1)
    found, told = run(digits_folder, shared, tmp_path / "second")
    assert found["status"] == "infeasible" and len(cluster.seen) == Params().search.attempts
    assert f"attempt {Params().search.attempts}" in told[-1]


def test_a_sentence_for_the_user_comes_through_and_is_not_tried_again(digits_folder, cluster, shared, tmp_path) -> None:
    params = parse(Params, settings())
    proposal = {**asked(digits_folder, params).to_json(), "fingerprint": "f" * 64}
    with pytest.raises(InputError, match=r"holds other data \(fingerprint .* than this search began with"):
        train_job.run(params, proposal, digits_folder, tmp_path / "out", shared=shared, spec=SPEC, pause=0.1)
    assert len(cluster.seen) == 1


def test_a_pipeline_that_was_compiled_for_another_number_of_processes_is_told(digits_folder, shared, tmp_path) -> None:
    params = parse(Params, settings(gpus=4))
    with pytest.raises(InputError, match="training.gpus is 4, and the pipeline was compiled for TrainJobs of 2 x 1 "):
        train_job.run(params, asked(digits_folder, params).to_json(), digits_folder, tmp_path / "out", shared=shared,
                      spec=SPEC)


def test_tasks_that_begin_together_leave_each_other_the_data(digits_folder, tmp_path) -> None:
    target, missing, over = tmp_path / "shared" / "data", [], threading.Event()

    def read() -> None:
        """A job that reads what is there, from the moment that it is."""
        while not over.is_set():
            if target.exists() and not (target / "dataset.json").exists():
                missing.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=train_job._publish, args=(digits_folder, target)) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    over.set()
    reader.join()
    assert missing == [] and [path.name for path in target.parent.iterdir()] == ["data"]
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in digits_folder.iterdir())


@pytest.mark.parametrize(("method", "status", "sentence"), [
    ("GET", 403, r"reading the pod .* was refused by Kubernetes \(403 .*: no\); it needs the role parapet-pipeline"),
    ("POST", 404, r"creating a TrainJob was refused by Kubernetes \(404 .*: no\); it needs Kubeflow Trainer 2.2")])
def test_what_kubernetes_refuses_is_told(digits_folder, cluster, shared, tmp_path, method, status, sentence) -> None:
    cluster.refused[method] = status
    with pytest.raises(InputError, match=sentence):
        run(digits_folder, shared, tmp_path / "out")


def test_a_folder_that_other_pods_do_not_see_is_told(digits_folder, cluster, shared, tmp_path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match="own is not in a volume claim of the pod robust-search-x-training"):
        run(digits_folder, tmp_path / "own", tmp_path / "out")


def test_outside_a_cluster_there_are_none(digits_folder, shared, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match="neither a pod of a cluster nor is there a kubeconfig; leave"):
        run(digits_folder, shared, tmp_path / "out")
