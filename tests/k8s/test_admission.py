"""What a pipeline's account may create: the TrainJob that the step training makes, and nothing that is more.

The policy's expressions are run as they are, by an implementation of CEL.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from parapet.processes import train_job
from tests.k8s import custom_resources

cel = pytest.importorskip("cel", reason="pip install common-expression-language")
FILE = Path(__file__).parents[2] / "k8s/components/trainer/admission.yaml"
POLICY, BINDING = yaml.safe_load_all(FILE.read_text())
NAMESPACE, RUN = "kubeflow-user-example-com", "robust-search-x7k2p"
IMAGE = "registry.example/parapet-cuda@sha256:" + "0123456789abcdef" * 4
OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": RUN, "uid": "1"}


def made(**changes: Any) -> dict[str, Any]:
    """The job that the step training makes in the pod of a run."""
    wanted = {"runtime": "parapet-torch", "nodes": 2, "processes": 4, "device": "cuda",
              "resources": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"}, "seconds": 7200, "queue": "parapet",
              "node_selectors": {"nvidia.com/gpu.product": "H100"},
              "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], **changes}
    context = train_job.PodContext(NAMESPACE, IMAGE, [OWNER], "parapet-pipeline", f"{RUN}-kfp-workspace",
                                   "/kfp-workspace")
    name = "parapet-0123456789ab-01234567"
    return train_job.manifest(name, Path(f"/kfp-workspace/parapet/teams/{name}/request.json"), context,
                              train_job.TrainJobSpec(**wanted), threads=1)


def request(job: dict[str, Any], account: str = "parapet-pipeline", pod: str | None = f"{RUN}-training-1") -> dict:
    extra = {"authentication.kubernetes.io/pod-name": [pod]} if pod else {}
    return {"operation": "CREATE", "namespace": job["metadata"]["namespace"],
            "userInfo": {"username": f"system:serviceaccount:{NAMESPACE}:{account}", "extra": extra}}


def refusals(job: dict[str, Any], asked: dict[str, Any] | None = None) -> list[str]:
    """The messages of the rules that refuse `job`; none where the policy is not for who asks."""
    values: dict[str, Any] = {"object": job, "request": asked or request(job), "variables": {}}
    spec = POLICY["spec"]
    if not all(cel.evaluate(each["expression"], values) for each in spec["matchConditions"]):
        return []
    for variable in spec["variables"]:
        try:
            values["variables"][variable["name"]] = cel.evaluate(variable["expression"], values)
        except Exception:  # what an implementation of CEL raises; the rules that read it then fail, and refuse
            continue
    return [rule["message"] for rule in spec["validations"] if not _holds(rule["expression"], values)]


def _holds(expression: str, values: dict[str, Any]) -> bool:
    try:
        return cel.evaluate(expression, values) is True
    except Exception:  # failurePolicy: Fail
        return False


def pod(job: dict[str, Any]) -> dict[str, Any]:
    patch, = job["spec"]["runtimePatches"]
    return _node(patch)["template"]["spec"]["template"]["spec"]


def _node(patch: dict[str, Any]) -> dict[str, Any]:
    return patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]


def test_it_is_bound_to_every_namespace_and_denies_where_it_cannot_tell() -> None:
    spec = POLICY["spec"]
    assert BINDING["spec"] == {"policyName": POLICY["metadata"]["name"], "validationActions": ["Deny", "Audit"]}
    assert spec["failurePolicy"] == "Fail" and "paramKind" not in spec
    assert spec["matchConstraints"]["resourceRules"] == [
        {"apiGroups": ["trainer.kubeflow.org"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
         "resources": ["trainjobs"]}]


@pytest.mark.parametrize("changes", [
    {}, {"queue": None}, {"node_selectors": None}, {"tolerations": ()}, {"nodes": 1, "processes": 2, "device": "cpu",
                                                                         "resources": {"cpu": "8", "memory": "1Gi"}}])
def test_what_the_step_makes_is_allowed(changes: dict[str, Any]) -> None:
    assert refusals(made(**changes)) == []


def test_what_kubernetes_trainer_and_kueue_add_is_allowed() -> None:
    job = made()
    job["metadata"] |= {"uid": "2", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": []}
    job["spec"] |= {"suspend": True, "managedBy": "trainer.kubeflow.org/trainjob-controller",
                    "labels": {"kueue.x-k8s.io/queue-name": "parapet"}}
    assert refusals(job) == []


def test_who_is_no_pipeline_is_left_alone() -> None:
    job = made()
    job["spec"]["trainer"]["image"] = "debian"
    assert refusals(job, request(job, account="default-editor")) == []
    assert refusals(job) != []


# What a pod that was taken over would ask for, and a word of the rule that refuses it.
_PACKAGES = "/opt/venv/lib/python3.11/site-packages"
HOSTILE: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "a secret as a volume": ("volumes", lambda job: pod(job)["volumes"].append(
        {"name": "s", "secret": {"secretName": "mlpipeline-minio-artifact"}})),
    "the workspace over Python's packages": ("node", lambda job: (
        pod(job)["containers"][0]["volumeMounts"][0].update(mountPath=_PACKAGES),
        job["spec"]["trainer"]["command"].__setitem__(5, f"{_PACKAGES}/teams/{job['metadata']['name']}/request.json"))),
    "the workflow whose name is the beginning of its own": ("workflow", lambda job: (
        job["metadata"]["ownerReferences"][0].update(name=RUN.rpartition("-")[0]),
        pod(job)["volumes"][0]["persistentVolumeClaim"].update(claimName=f"{RUN.rpartition('-')[0]}-kfp-workspace"))),
    "a secret instead of shared memory": ("volumes", lambda job: pod(job)["volumes"].__setitem__(
        1, {"name": "dshm", "secret": {"secretName": "other"}})),
    "a secret beside shared memory": ("volumes", lambda job: pod(job)["volumes"][1].update(
        secret={"secretName": "other"})),
    "a secret under the name shared": ("volumes", lambda job: pod(job)["volumes"].__setitem__(
        0, {"name": "shared", "secret": {"secretName": "other"}})),
    "a projected token": ("volumes", lambda job: pod(job)["volumes"].__setitem__(1, {"name": "dshm", "projected": {
        "sources": [{"serviceAccountToken": {"path": "token"}}]}})),
    "the node's files": ("volumes", lambda job: pod(job)["volumes"].__setitem__(
        0, {"name": "shared", "hostPath": {"path": "/"}})),
    "the node's disk for memory": ("volumes", lambda job: pod(job)["volumes"][1]["emptyDir"].pop("medium")),
    "another claim": ("volumes", lambda job: pod(job)["volumes"][0]["persistentVolumeClaim"].update(
        claimName="somebody-s-home")),
    "another run's workspace": ("volumes", lambda job: pod(job)["volumes"][0]["persistentVolumeClaim"].update(
        claimName="other-run-kfp-workspace")),
    "the same volume twice": ("volumes", lambda job: pod(job)["volumes"].__setitem__(1, pod(job)["volumes"][0])),
    "no volume": ("volumes", lambda job: pod(job).pop("volumes")),
    "another account": ("service account", lambda job: pod(job).update(serviceAccountName="default-editor")),
    "no account": ("service account", lambda job: pod(job).pop("serviceAccountName")),
    "its token": ("service account", lambda job: pod(job).update(automountServiceAccountToken=True)),
    "the node's network": ("nothing else", lambda job: pod(job).update(hostNetwork=True)),
    "the node's processes": ("nothing else", lambda job: pod(job).update(hostPID=True)),
    "the node's memory": ("nothing else", lambda job: pod(job).update(hostIPC=True)),
    "a node by its name": ("nothing else", lambda job: pod(job).update(nodeName="control-plane")),
    "a priority": ("nothing else", lambda job: pod(job).update(priorityClassName="system-node-critical")),
    "an image's pull secret": ("nothing else", lambda job: pod(job).update(imagePullSecrets=[{"name": "s"}])),
    "another runtime class": ("nothing else", lambda job: pod(job).update(runtimeClassName="nvidia")),
    "root": ("not root", lambda job: pod(job)["securityContext"].update(runAsUser=0, runAsGroup=0, fsGroup=0)),
    "perhaps root": ("not root", lambda job: pod(job)["securityContext"].pop("runAsNonRoot")),
    "another group": ("not root", lambda job: pod(job)["securityContext"].update(fsGroup=0)),
    "more groups": ("not root", lambda job: pod(job)["securityContext"].update(supplementalGroups=[0])),
    "a sysctl": ("not root", lambda job: pod(job)["securityContext"].update(sysctls=[{"name": "a", "value": "1"}])),
    "no user": ("not root", lambda job: pod(job).pop("securityContext")),
    "privileges": ("container", lambda job: pod(job)["containers"][0].update(securityContext={"privileged": True})),
    "a secret as environment": ("container", lambda job: pod(job)["containers"][0].update(
        envFrom=[{"secretRef": {"name": "s"}}])),
    "another image of its container": ("container", lambda job: pod(job)["containers"][0].update(image="debian")),
    "a second container": ("container", lambda job: pod(job)["containers"].append({"name": "more"})),
    "an init container": ("nothing else", lambda job: pod(job).update(initContainers=[{"name": "first"}])),
    "an ephemeral container": ("nothing else", lambda job: pod(job).update(ephemeralContainers=[{"name": "first"}])),
    "a mount of something else": ("container", lambda job: pod(job)["containers"][0]["volumeMounts"].append(
        {"name": "dshm", "mountPath": "/opt"})),
    "a folder of a volume": ("container", lambda job: pod(job)["containers"][0]["volumeMounts"][0].update(subPath="x")),
    "a taint of the control plane": ("control plane", lambda job: pod(job)["tolerations"].append(
        {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"})),
    "every taint": ("control plane", lambda job: pod(job)["tolerations"].append({"operator": "Exists"})),
    "another image": ("trainer", lambda job: job["spec"]["trainer"].update(image="debian@sha256:" + "0" * 64)),
    "an image whose name begins so": ("trainer", lambda job: job["spec"]["trainer"].update(
        image="registry.example/parapet-cuda-evil@sha256:" + "0" * 64)),
    "an image by its tag": ("trainer", lambda job: job["spec"]["trainer"].update(
        image="registry.example/parapet-cuda:latest")),
    "arguments": ("trainer", lambda job: job["spec"]["trainer"].update(args=["-c", "id"])),
    "a thousand nodes": ("trainer", lambda job: job["spec"]["trainer"].update(numNodes=1000)),
    "a shell": ("torchrun", lambda job: job["spec"]["trainer"].update(command=["sh", "-c", "id"])),
    "another module": ("torchrun", lambda job: job["spec"]["trainer"]["command"].__setitem__(4, "http.server")),
    "one word more": ("torchrun", lambda job: job["spec"]["trainer"]["command"].append("x")),
    "another job's request": ("torchrun", lambda job: job["spec"]["trainer"]["command"].__setitem__(
        5, "/kfp-workspace/parapet/teams/other/request.json")),
    "a request that climbs": ("torchrun", lambda job: job["spec"]["trainer"]["command"].__setitem__(
        5, f"/kfp-workspace/../etc/teams/{job['metadata']['name']}/request.json")),
    "a secret in the environment": ("environment", lambda job: job["spec"]["trainer"]["env"].append(
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
    "a library before all others": ("environment", lambda job: job["spec"]["trainer"]["env"].append(
        {"name": "LD_PRELOAD", "value": "/kfp-workspace/x.so"})),
    "a secret as the number": ("environment", lambda job: job["spec"]["trainer"]["env"].__setitem__(
        0, {"name": "OMP_NUM_THREADS", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
    "no limits": ("resources", lambda job: job["spec"]["trainer"]["resourcesPerNode"].pop("limits")),
    "other limits": ("resources", lambda job: job["spec"]["trainer"]["resourcesPerNode"]["limits"].update(cpu="64")),
    "claims": ("resources", lambda job: job["spec"]["trainer"]["resourcesPerNode"].update(claims=[{"name": "c"}])),
    "another runtime": ("runs on", lambda job: job["spec"]["runtimeRef"].update(name="torch-distributed")),
    "a runtime of the cluster": ("runs on", lambda job: job["spec"]["runtimeRef"].update(
        kind="ClusterTrainingRuntime")),
    "no end": ("nothing else", lambda job: job["spec"].pop("activeDeadlineSeconds")),
    "an initializer": ("nothing else", lambda job: job["spec"].update(
        initializer={"dataset": {"secretRef": {"name": "s"}}})),
    "older overrides of pods": ("nothing else", lambda job: job["spec"].update(
        podTemplateOverrides=[{"spec": {"serviceAccountName": "default-editor"}}])),
    "another manager": ("nothing else", lambda job: job["spec"].update(managedBy="kueue.x-k8s.io/multikueue")),
    "annotations of its pods": ("nothing else", lambda job: job["spec"].update(annotations={"a": "b"})),
    "labels of its pods": ("labels", lambda job: job["spec"].update(labels={"app": "mlflow"})),
    "a second patch": ("patches", lambda job: job["spec"]["runtimePatches"].append(
        {"manager": "x", "trainingRuntimeSpec": {}})),
    "another patch's manager": ("patches", lambda job: job["spec"]["runtimePatches"][0].update(manager="x")),
    "no patch": ("patches", lambda job: job["spec"].pop("runtimePatches")),
    "a patch of the runtime's metadata": ("patches", lambda job: job["spec"]["runtimePatches"][0][
        "trainingRuntimeSpec"]["template"].update(metadata={"annotations": {"a": "b"}})),
    "a second job": ("patches", lambda job: job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"][
        "replicatedJobs"].append({"name": "launcher"})),
    "another job of the runtime": ("patches", lambda job: _node(job["spec"]["runtimePatches"][0]).update(
        name="launcher")),
    "labels of the pod's template": ("patches", lambda job: _node(job["spec"]["runtimePatches"][0])["template"]["spec"][
        "template"].update(metadata={"labels": {"app.kubernetes.io/name": "mlflow"}})),
    "a patch of the job's own": ("patches", lambda job: _node(job["spec"]["runtimePatches"][0])["template"][
        "spec"].update(backoffLimit=100)),
    "another name": ("name", lambda job: job["metadata"].update(name="mine")),
    "annotations": ("annotations", lambda job: job["metadata"].update(annotations={"a": "b"})),
    "a finalizer that nobody takes away": ("finalizers", lambda job: job["metadata"].update(finalizers=["a/b"])),
    "a priority in the queue": ("labels", lambda job: job["metadata"]["labels"].update(
        {"kueue.x-k8s.io/priority-class": "high"})),
    "no owner": ("belongs", lambda job: job["metadata"].update(ownerReferences=[])),
    "another run for an owner": ("belongs", lambda job: job["metadata"]["ownerReferences"][0].update(name="other-run")),
    "an owner that is no workflow": ("belongs", lambda job: job["metadata"]["ownerReferences"][0].update(kind="Pod")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_more_than_that_is_refused(what: str) -> None:
    word, change = HOSTILE[what]
    job = copy.deepcopy(made())
    change(job)
    assert job != made()
    said = refusals(job)
    assert any(word in message for message in said), said


@pytest.mark.parametrize("who", [None, "somebody-s-notebook-0", "robust-search-x7k2-training-1"])
def test_a_token_that_is_not_of_a_pod_of_that_run_is_refused(who: str | None) -> None:
    said = refusals(made(), request(made(), pod=who))
    assert said == ["a pipeline's TrainJob belongs to the workflow of the pod that makes it."]


@pytest.mark.skipif(custom_resources.folder() is None, reason=custom_resources.MISSING)
def test_the_keys_that_it_lets_through_are_those_of_the_published_schema() -> None:
    assert custom_resources.problems(made()) == []
