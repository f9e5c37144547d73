"""Trains one candidate on several GPUs of a cluster, as a TrainJob of Kubeflow Trainer.

The task that creates the job needs no GPU: it writes the data set and the request to the volume that the tasks of its
run share, creates the job, waits, and copies the results from that volume. A task that is retried finds the job by its
name and waits for it; a job that is retried resumes from its checkpoint.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.config import Params
from parapet.disk.files import digest, read_json, scratch_folder, write_json
from parapet.errors import InputError
from parapet.processes import launcher, training_request
from parapet.processes import train_job_api as api
from parapet.store import results

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_MANAGER, _NODE = "parapet.dev/pipeline", "node"


@dataclass(frozen=True)
class TrainJobSpec:
    """What a TrainJob asks for: a TrainingRuntime of its namespace, nodes, and processes and resources per node.

    `device` is cuda or cpu. `resources` are Kubernetes quantities by name, both requests and limits; `shared_memory` is
    the size of /dev/shm, `user` the user id of the processes. The job is ended after `seconds`, not counting the time
    in a queue.
    """

    runtime: str
    nodes: int
    processes: int
    device: str
    resources: Mapping[str, str]
    seconds: int
    shared_memory: str = "2Gi"
    user: int = 1000
    queue: str | None = None
    node_selectors: Mapping[str, str] | None = None
    tolerations: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class PodContext:
    """The pod of this process: its namespace, image, owners and service account, and the volume claim at `mount`."""

    namespace: str
    image: str
    owners: list[dict[str, Any]]
    account: str
    claim: str
    mount: str


def run(params: Params, proposal: dict[str, Any], dataset: Path, out: Path, *, shared: Path, spec: TrainJobSpec,
        tell: Callable[[str], None] = print, pause: float = 5.0) -> dict[str, Any]:
    """Train `proposal` by a TrainJob into folder `out`, as `training.run` does; `shared` is the volume of the run.

    A job that fails is repeated, with up to `search.attempts` jobs in all, also across retries of this task; then the
    candidate is infeasible, with the job's message as the reason. Returns the content of training.json. Raises
    InputError where this is not a pod with `shared` mounted from a volume claim, where Kubernetes does not know or
    refuses TrainJobs, or where `spec` has another number of processes than `training.gpus`.
    """
    if spec.nodes * spec.processes != params.training.gpus:
        raise InputError(f"training.gpus is {params.training.gpus}, and the pipeline was compiled for TrainJobs of "
                         f"{spec.nodes} x {spec.processes} processes; compile it again with this params.yaml.")
    out.mkdir(parents=True, exist_ok=True)
    client, namespace = api.connect()
    context = _pod_context(client, namespace, shared)
    name = f"parapet-{proposal['id']}-{digest([context.claim, proposal['training_key']])[:8]}"
    place = shared / "teams" / name
    path, heart = _prepare(params, proposal, dataset, place, shared, spec.device), place / launcher.HEARTBEAT
    while True:
        job, attempts = api.find(client, namespace, name), _attempts(place)
        if job is not None and api.condition(job, "Failed"):
            api.delete(client, namespace, name, pause)
            job = None
        if job is None:
            attempts = _attempts(place, begun=True)
            (place / launcher.ERROR).unlink(missing_ok=True)
            heart.touch()
            api.create(client, manifest(name, path, context, spec, threads=params.search.threads))
            tell(f"TrainJob {name} is created: {spec.nodes} x {spec.processes} processes, attempt {attempts}")
        else:
            tell(f"TrainJob {name} is there already; waiting for it")
        failure = api.wait(client, namespace, name, pause, heart.touch)
        if failure is None or attempts >= params.search.attempts:
            break
        launcher.raise_told(place)
        tell(f"TrainJob {name} failed: {failure}")
    api.delete(client, namespace, name, pause)
    if failure is None:
        for source in (place / "out").iterdir():
            shutil.copyfile(source, out / source.name)
    else:
        launcher.raise_told(place)
        results.write(out / results.TRAINING, candidate=proposal["id"], key=proposal["training_key"],
                      status="infeasible", reason=f"training: the TrainJob {name} failed: {failure}",
                      lost="a TrainJob that failed")
    shutil.rmtree(place)
    return results.trained(out)


def manifest(name: str, request: Path, context: PodContext, spec: TrainJobSpec, *, threads: int) -> dict[str, Any]:
    """The TrainJob as a Kubernetes object."""
    labels = {"app.kubernetes.io/part-of": "parapet"} | (
        {"kueue.x-k8s.io/queue-name": spec.queue} if spec.queue else {})
    pod: dict[str, Any] = {
        "serviceAccountName": context.account,
        "securityContext": {"runAsNonRoot": True, "runAsUser": spec.user, "runAsGroup": spec.user,
                            "fsGroup": spec.user},
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": context.claim}},
                    {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": spec.shared_memory}}],
        "containers": [{"name": _NODE, "volumeMounts": [{"name": "shared", "mountPath": context.mount}]}]}
    if spec.node_selectors:
        pod["nodeSelector"] = dict(spec.node_selectors)
    if spec.tolerations:
        pod["tolerations"] = [dict(each) for each in spec.tolerations]
    jobs = [{"name": _NODE, "template": {"spec": {"template": {"spec": pod}}}}]
    return {
        "apiVersion": f"{api.GROUP}/{api.VERSION}", "kind": "TrainJob",
        "metadata": {"name": name, "namespace": context.namespace, "labels": labels, "ownerReferences": context.owners},
        "spec": {
            "runtimeRef": {"apiGroup": api.GROUP, "kind": "TrainingRuntime", "name": spec.runtime},
            "activeDeadlineSeconds": spec.seconds,
            "trainer": {"image": context.image, "numNodes": spec.nodes, "numProcPerNode": spec.processes,
                        # Kubeflow Trainer sets the other variables that torchrun needs.
                        "command": ["python", *launcher.COMMAND, *launcher.MODULE, str(request)],
                        "env": [{"name": "OMP_NUM_THREADS", "value": str(threads)}],
                        "resourcesPerNode": {"requests": dict(spec.resources), "limits": dict(spec.resources)}},
            "runtimePatches": [{"manager": _MANAGER,
                                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}]}}


def _prepare(params: Params, proposal: dict[str, Any], dataset: Path, place: Path, shared: Path, device: str) -> Path:
    """Write the data set and the request to the volume of the run; returns the request's path."""
    data = shared / "datasets" / proposal["fingerprint"][:32]
    if not data.exists():
        _publish(dataset, data)
    (place / "out").mkdir(parents=True, exist_ok=True)
    write_json(place / "request.json", training_request.request(params, proposal, data, place / "out", device=device,
                                                        start=None, checkpoints=shared / "checkpoints"))
    return place / "request.json"


def _publish(source: Path, target: Path) -> None:
    """Copy a folder to `target`; a copy by another task is not replaced, because jobs may be reading it already."""
    with scratch_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        try:
            partial.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


def _attempts(place: Path, *, begun: bool = False) -> int:
    """How many jobs were created for this training, by this task or an earlier try of it; `begun` adds one."""
    path = place / "attempts.json"
    count = (read_json(path) if path.exists() else 0) + begun
    write_json(path, count)
    return count


def _pod_context(client: ApiClient, namespace: str, shared: Path) -> PodContext:
    from kubernetes.client import CoreV1Api

    name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
    with api.refused(f"reading the pod {name}", "the role parapet-pipeline of k8s/base/pipelines"):
        pod = CoreV1Api(client).read_namespaced_pod(name, namespace)
    claims = {volume.name: volume.persistent_volume_claim.claim_name for volume in pod.spec.volumes or []
              if volume.persistent_volume_claim}
    mounts = [(mount, container) for container in pod.spec.containers for mount in container.volume_mounts or []
              if mount.name in claims and not mount.sub_path and shared.is_relative_to(mount.mount_path)]
    if not mounts:
        raise InputError(f"{shared} is not in a volume claim of the pod {name}, so that the pods of a TrainJob could "
                         "not see it; a run's workspace is one.")
    mount, container = max(mounts, key=lambda found: len(found[0].mount_path))
    owners = [{"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
              for owner in pod.metadata.owner_references or []]
    return PodContext(namespace, container.image, owners, pod.spec.service_account_name or "default",
                      claims[mount.name], mount.mount_path)
