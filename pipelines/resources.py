"""The resources that each step requests from a cluster, read from a file like pipelines/cluster.yaml; a local run
requests none."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kfp import kubernetes
from kfp.dsl import KubernetesWorkspaceConfig, PipelineConfig, PipelineTask, WorkspaceConfig

from parapet.config import Params, option, parse
from parapet.disk import plain_yaml
from parapet.errors import InputError
from parapet.processes.train_job import TrainJobSpec
from parapet.quoting import quote
from pipelines.layout import Layout

# An amount of memory or disk that both Kubernetes and KFP accept.
_SIZE = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?([KMGT]i|[MGT])?")


@dataclass(frozen=True)
class Pod:
    """Requests and equal limits of a pod, which give it the QoS class Guaranteed: other pods do not slow it down.

    `cpus` is an integer, because with a fraction of a CPU the kernel throttles the pod, which would disturb timing. The
    pod is stopped after `hours` hours.
    """

    cpus: int = option(1, low=1, high=512)
    memory: str = option("2Gi")
    gpus: int = option(0, low=0, high=16)
    hours: float = option(24.0, low=0.01, high=720.0)

    def __post_init__(self) -> None:
        if not _SIZE.fullmatch(self.memory):
            raise InputError(f"the memory of a pod is {quote(self.memory)}; write for example 8Gi.")


@dataclass(frozen=True)
class Toleration:
    """A toleration of pods with a GPU for a node taint."""

    key: str = option("nvidia.com/gpu")
    operator: str = option("Exists", choices=("Exists", "Equal"))
    value: str | None = option(None)
    effect: str = option("NoSchedule", choices=("NoSchedule", "NoExecute", "PreferNoSchedule"))


@dataclass(frozen=True)
class Secret:
    """Environment variables (`variables` maps their names to keys) whose values come from the Kubernetes secret `name`.
    """

    name: str = option("")
    variables: dict[str, str] = option(dict, factory=True)

    def __post_init__(self) -> None:
        if not self.name or not self.variables:
            raise InputError("a secret has no name or no variables; write for example {name: mlflow-client, variables: "
                             "{MLFLOW_TRACKING_PASSWORD: password}}.")


# The steps whose pods wait in the Kueue queue: those that train, attack or measure latency.
_QUEUED = ("training", "attack_evaluation", "export", "measure", "search", "full_evaluation", "promotion")
# The folder in a pod with the certificate of the authority that signed MLflow's certificate.
_AUTHORITY = "/etc/mlflow-ca"
# Steps that may run on another device than params.yaml says; for the other steps cache keys depend on the device.
_ADAPTABLE = ("attack_evaluation", "full_evaluation", "promotion")


def _gpu_pod(memory: str = "8Gi") -> Any:
    return option(lambda: Pod(cpus=2, memory=memory, gpus=1), factory=True)


def _cpu_pod(cpus: int, memory: str) -> Any:
    return option(lambda: Pod(cpus=cpus, memory=memory), factory=True)


@dataclass(frozen=True)
class Resources:
    """A pod for each step, and the settings of all pods or of all pods with a GPU.

    `node_selectors`, `tolerations` and `shared_memory` are for pods with a GPU; with the Kubernetes default of 64 MiB
    shared memory, PyTorch's worker processes crash with a bus error. `queue` is a LocalQueue of Kueue for the pods that
    train, attack or measure latency; a TrainJob waits there for up to `queue_hours`. `mlflow_uri`, `secrets` and
    `mlflow_ca` are set in every pod; `mlflow_ca` is the name of a ConfigMap whose `ca.crt` is the authority of MLflow's
    certificate. With `log: json` every pod writes one JSON event per line to its standard error. `workspace` is the
    size of the volume that the tasks of a run share, from which the work of an evicted pod is resumed.

    A candidate with `training.gpus` above 1 is trained in the pod of its task, which needs as many GPUs. With
    `training_runtime`, the name of a TrainingRuntime, a TrainJob of Kubeflow Trainer trains it instead, in as many pods
    like those of the step `training` as needed, while the task waits.
    """

    data_prep: Pod = option(Pod, factory=True)
    candidates: Pod = option(Pod, factory=True)
    training: Pod = _gpu_pod()
    attack_evaluation: Pod = _gpu_pod()
    export: Pod = _cpu_pod(2, "4Gi")
    measure: Pod = _gpu_pod()
    search: Pod = _gpu_pod()
    full_evaluation: Pod = _gpu_pod()
    front: Pod = option(Pod, factory=True)
    report: Pod = option(Pod, factory=True)
    promotion: Pod = _gpu_pod()
    outcome: Pod = option(Pod, factory=True)
    accelerator: str = option("nvidia.com/gpu")
    retries: int = option(2, low=0, high=10)
    backoff: str = option("30s")
    backoff_factor: float = option(2.0, low=1.0, high=10.0)
    shared_memory: str = option("2Gi")
    node_selectors: dict[str, str] = option(dict, factory=True)
    tolerations: tuple[Toleration, ...] = option((Toleration(),))
    queue: str | None = option(None)
    queue_hours: float = option(24.0, low=0.0, high=720.0)
    training_runtime: str | None = option(None)
    mlflow_uri: str | None = option(None)
    mlflow_ca: str | None = option(None)
    log: str | None = option(None, choices=("json",))
    secrets: tuple[Secret, ...] = option(())
    user: int = option(1000, low=1, high=2**31 - 1)
    workspace: str = option("10Gi")
    workspace_access: str = option("ReadWriteMany", choices=("ReadWriteMany", "ReadWriteOnce"))
    storage_class: str | None = option(None)
    layout: Layout = option(Layout, factory=True)

    @property
    def gpus(self) -> bool:
        """Whether candidates are trained on accelerators."""
        gpus: int = getattr(self, self._trainer).gpus
        return gpus > 0

    @property
    def _trainer(self) -> str:
        """The name of the step whose pods train candidates."""
        return "measure" if self.layout.batch else "training" if self.layout.generations_per_task is None else "search"

    def __post_init__(self) -> None:
        for name in ("workspace", "shared_memory"):
            if not _SIZE.fullmatch(getattr(self, name)):
                raise InputError(f"{name} is {quote(getattr(self, name))}; write for example 10Gi.")
        if not re.fullmatch(r"[0-9]{1,9}[smh]", self.backoff):
            raise InputError(f"backoff is {quote(self.backoff)}; write for example 30s.")
        for name in ("queue", "training_runtime", "mlflow_ca"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", value):
                raise InputError(f"{name} is {quote(value)}, which cannot be a name in Kubernetes; use small letters, "
                                 "digits, '-' and '.'.")

    def device(self, step: str) -> str | None:
        """The device of `step` where it differs from the one in params.yaml, else None."""
        return "cpu" if step in _ADAPTABLE and getattr(self, step).gpus == 0 else None

    def train_job(self, params: Params) -> str:
        """The TrainJobSpec for the component `training`, as JSON; empty where candidates train in the task's own pod.

        Raises InputError where a candidate needs more GPUs than its pod has and no TrainJob can be used, and where a
        TrainJob cannot run with these settings.
        """
        gpus, cards = params.training.gpus, params.device != "cpu" and self.training.gpus > 0
        if gpus == 1:
            return ""
        step = self._trainer
        if self.training_runtime is None or step != "training":
            there = getattr(self, step).gpus
            if params.device != "cpu" and 0 < there < gpus:
                raise InputError(f"training.gpus is {gpus}, and a pod of the step {step} has {there} of them; give it "
                                 f"{step}: {{gpus: {gpus}}} in the cluster file, or let each candidate be trained by a "
                                 "TrainJob: name a training_runtime, without layout.batch and "
                                 "layout.generations_per_task.")
            return ""
        if self.workspace_access != "ReadWriteMany":
            raise InputError(f"workspace_access is {self.workspace_access}, and the pods of a TrainJob share the run's "
                             "volume with its task; set it to ReadWriteMany.")
        each = min(gpus, self.training.gpus or 1)
        if gpus % each:
            raise InputError(f"training.gpus is {gpus}, and the pods of the step training have {each} each, which "
                             "does not divide it; change one of them.")
        wanted = {"cpu": str(self.training.cpus), "memory": self.training.memory}
        spec = TrainJobSpec(self.training_runtime, gpus // each, each, "cuda" if cards else "cpu",
                        wanted | ({self.accelerator: str(each)} if cards else {}), round(3600 * self.training.hours),
                        self.shared_memory, self.user, self.queue)
        if cards:
            spec = replace(spec, node_selectors=self.node_selectors,
                             tolerations=tuple(map(_without_none, self.tolerations)))
        return json.dumps(asdict(spec))

    def request(self, task: PipelineTask, step: str, device: str, *, waits: int = 0) -> None:
        """Set the requests of `step` on `task`: no accelerator where `device` is cpu, and minimal requests for a task
        that waits for up to `waits` TrainJobs, one after the other."""
        pod: Pod = getattr(self, step)
        if waits:
            pod = replace(pod, cpus=1, memory="2Gi", gpus=0, hours=pod.hours * waits + self.queue_hours)
        task.set_cpu_request(str(pod.cpus)).set_cpu_limit(str(pod.cpus))
        task.set_memory_request(pod.memory).set_memory_limit(pod.memory)
        if step != "promotion":  # a retry of a refused promotion would be refused too
            task.set_retry(num_retries=self.retries, backoff_duration=self.backoff, backoff_factor=self.backoff_factor)
        kubernetes.set_timeout(task, seconds=round(3600 * pod.hours))
        # Namespaces with the Pod Security level "restricted" require this, and Kubeflow does not set it.
        kubernetes.set_security_context(task, run_as_user=self.user, run_as_non_root=True)
        if pod.gpus and device != "cpu":
            self._request_gpus(task, pod.gpus)
        # A waiting task in the queue would use the quota that its TrainJob needs.
        if self.queue and step in _QUEUED and not waits:
            kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", self.queue)
        if self.mlflow_uri:
            task.set_env_variable("MLFLOW_TRACKING_URI", self.mlflow_uri)
        if self.mlflow_ca:
            kubernetes.use_config_map_as_volume(task, self.mlflow_ca, mount_path=_AUTHORITY)
            task.set_env_variable("MLFLOW_TRACKING_SERVER_CERT_PATH", f"{_AUTHORITY}/ca.crt")
        if self.log:
            task.set_env_variable("PARAPET_LOG", self.log)
        for secret in self.secrets:
            kubernetes.use_secret_as_env(task, secret.name, {key: name for name, key in secret.variables.items()})

    def workspace_config(self) -> PipelineConfig:
        """The configuration of the volume that the tasks of a run share."""
        patch: dict[str, Any] = {"accessModes": [self.workspace_access]}
        if self.storage_class:
            patch["storageClassName"] = self.storage_class
        return PipelineConfig(workspace=WorkspaceConfig(
            size=self.workspace, kubernetes=KubernetesWorkspaceConfig(pvcSpecPatch=patch)))

    def _request_gpus(self, task: PipelineTask, count: int) -> None:
        task.set_accelerator_type(self.accelerator).set_accelerator_limit(count)
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory",  # nosec B108 # private to the pod
                                   size_limit=self.shared_memory)
        for key, value in self.node_selectors.items():
            kubernetes.add_node_selector(task, key, value)
        for each in self.tolerations:
            kubernetes.add_toleration(task, key=each.key, operator=each.operator, value=each.value, effect=each.effect)


def _without_none(toleration: Toleration) -> dict[str, str]:
    return {name: value for name, value in asdict(toleration).items() if value is not None}


def load(path: Path) -> Resources:
    """The resources in a file like pipelines/cluster.yaml. Raises InputError, with one sentence, for an error in it."""
    values = plain_yaml.read(path, "give a file like pipelines/cluster.yaml with --cluster")
    try:
        return parse(Resources, {} if values is None else values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
