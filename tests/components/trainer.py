"""A Kubernetes API that knows one pod and TrainJobs, and runs them: each machine of a job is a process of torchrun.

What Kubeflow Trainer does is little: it puts PET_* into the environment of the trainer's containers and waits for
them. The training itself is real.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

POD, NAMESPACE, CLAIM = "robust-search-x-training", "team", "run-kfp-workspace"
IMAGE = "registry.example/parapet@sha256:0"
ROOT = Path(__file__).parents[2]
_JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"


@dataclass
class Trainer:
    """The API's state: the jobs by name, every manifest that came, what it refuses, by method, and how many
    requests meet a server that is away once there is a job; `broken` machines fail at once."""

    mount: Path
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    away: int = 0
    broken: bool = False
    machines: list[subprocess.Popen] = field(default_factory=list)

    def pod(self) -> dict[str, Any]:
        """The pod of the task that asks."""
        owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "robust-search-x", "uid": "u-1"}
        mounts = [{"name": "other", "mountPath": "/tmp"}, {"name": "workspace", "mountPath": str(self.mount)}]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "ownerReferences": [owner]},
                "spec": {"serviceAccountName": "parapet-pipeline",
                         "containers": [{"name": "wait", "image": "argoexec"},
                                        {"name": "main", "image": IMAGE, "volumeMounts": mounts}],
                         "volumes": [{"name": "other", "emptyDir": {}},
                                     {"name": "workspace", "persistentVolumeClaim": {"claimName": CLAIM}}]}}

    def start(self, job: dict[str, Any]) -> None:
        """Run a job's machines; its condition follows from how they end."""
        trainer, name = job["spec"]["trainer"], job["metadata"]["name"]
        self.jobs[name] = job
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable if word == "python" else word for word in trainer["command"]]
        if self.broken:
            command = [sys.executable, "-c", "raise SystemExit(1)"]
        machines = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={
            **os.environ, **{each["name"]: each["value"] for each in trainer["env"]},
            "PET_NNODES": str(trainer["numNodes"]), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(rank), "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)})
            for rank in range(trainer["numNodes"])]
        self.machines += machines

        def follow() -> None:
            for machine in machines:
                machine.communicate()
            kind = "Complete" if all(machine.returncode == 0 for machine in machines) else "Failed"
            job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": "Jobs" + kind,
                                             "message": f"jobset {kind.lower()} on {trainer['numNodes']} machines"}]}
        threading.Thread(target=follow, daemon=True).start()

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """(status, JSON) of a request."""
        if self.away and self.jobs:
            self.away -= 1
            return 503, {"message": "starting"}
        if method in self.refused:
            return self.refused[method], {"message": "no"}
        if path == f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}":
            return 200, self.pod()
        name = path.removeprefix(f"{_JOBS}/")
        if method == "POST" and path == _JOBS and body is not None:
            if body["metadata"]["name"] in self.jobs:
                return 409, {"message": "exists"}
            self.seen.append(json.loads(json.dumps(body)))
            self.start(body)
            return 201, body
        if name not in self.jobs:
            return 404, {"message": f"{path} not found"}
        if method == "DELETE":
            return 200, self.jobs.pop(name)
        return 200, self.jobs[name]


@contextmanager
def trainer(mount: Path, folder: Path) -> Iterator[tuple[Trainer, dict[str, str]]]:
    """The API on loopback, and the environment of a task that speaks to it."""
    state = Trainer(mount)

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = state.answer(self.command, self.path.partition("?")[0], body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "kubeconfig"
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": NAMESPACE}}]}))
    try:
        yield state, {"KUBECONFIG": str(config), "KFP_POD_NAME": POD}
    finally:
        server.shutdown()
        for machine in state.machines:
            machine.kill()
