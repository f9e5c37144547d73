"""Who reaches whom under the network policies of the overlay prod, by the rules of Kubernetes."""

from __future__ import annotations

import ipaddress
import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.k8s.test_manifests import _selects, render

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the overlays")
TEAM = "kubeflow-user-example-com"


@dataclass(frozen=True)
class Pod:
    """A pod by its namespace and labels."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict)


MLFLOW = Pod("parapet", {"app.kubernetes.io/name": "mlflow"})
BACKUP = Pod("parapet", {"app.kubernetes.io/name": "mlflow-backup"})
STRANGER = Pod("parapet", {"app.kubernetes.io/name": "stranger"})
STEP = Pod(TEAM, {"workflows.argoproj.io/workflow": "robust-search-x7k2p"})
JOB = Pod(TEAM, {"jobset.sigs.k8s.io/jobset-name": "parapet-0123"})
NOTEBOOK = Pod(TEAM, {"notebook-name": "somebody-s"})
OTHER_TEAM = Pod("another-team", {"workflows.argoproj.io/workflow": "run"})
GATEWAY = Pod("istio-system", {"app": "istio-ingressgateway"})
API, METADATA = Pod("kubeflow", {"app": "ml-pipeline"}), Pod("kubeflow", {"component": "metadata-grpc-server"})
STORE, UI = Pod("kubeflow", {"app": "seaweedfs"}), Pod("kubeflow", {"app": "ml-pipeline-ui"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})


def _matches(peer: dict[str, Any], home: str, other: Pod | str) -> bool:
    if isinstance(other, str):
        block, address = peer.get("ipBlock"), ipaddress.ip_address(other)
        return block is not None and address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(each) for each in block.get("except", []))
    if "ipBlock" in peer:
        return False
    spaces = peer.get("namespaceSelector")
    there = other.namespace == home if spaces is None else _selects(
        spaces, {"kubernetes.io/metadata.name": other.namespace})
    return there and _selects(peer.get("podSelector", {}), other.labels)


def _open(direction: str, pod: Pod, other: Pod | str, port: int, protocol: str) -> bool:
    """Whether the policies of `pod` let through; where none is for it, everything goes."""
    rules, governed = [], False
    for found in render("prod"):
        if (found["kind"] != "NetworkPolicy" or found["metadata"]["namespace"] != pod.namespace
                or direction not in found["spec"]["policyTypes"]
                or not _selects(found["spec"]["podSelector"], pod.labels)):
            continue
        governed = True
        rules += found["spec"].get(direction.lower(), [])
    side = "to" if direction == "Egress" else "from"
    return not governed or any(
        any(_matches(peer, pod.namespace, other) for peer in rule[side])
        and ("ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"]) for rule in rules)


def reaches(source: Pod | str, target: Pod | str, port: int, protocol: str = "TCP") -> bool:
    return (isinstance(source, str) or _open("Egress", source, target, port, protocol)) \
        and (isinstance(target, str) or _open("Ingress", target, source, port, protocol))


@pytest.fixture(autouse=True, scope="module")
def _rendered_once():
    cached = render("prod")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "render", lambda overlay: cached)
        yield


@pytest.mark.parametrize(("source", "target", "port"), [
    (STEP, MLFLOW, 5000), (STEP, API, 8887), (STEP, API, 8888), (STEP, METADATA, 8080), (STEP, STORE, 8333),
    (STEP, DNS, 53), (STEP, "10.0.0.1", 6443), (STEP, "203.0.113.7", 443),
    (JOB, JOB, 29500), (JOB, JOB, 41234), (JOB, DNS, 53), (GATEWAY, NOTEBOOK, 8888), (UI, NOTEBOOK, 3000),
    (MLFLOW, "192.0.2.10", 5432), (BACKUP, "192.0.2.10", 5432), (MLFLOW, "203.0.113.7", 443), (BACKUP, DNS, 53)])
def test_what_is_needed_is_open(source: Pod, target: Pod | str, port: int) -> None:
    assert reaches(source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), [
    # a pod of a pipeline that was taken over
    (STEP, "169.254.169.254", 443), (STEP, "169.254.169.254", 80), (STEP, "203.0.113.7", 80),
    (STEP, "203.0.113.7", 22), (STEP, "192.0.2.10", 5432), (STEP, NOTEBOOK, 8888), (STEP, STEP, 8000),
    (STEP, JOB, 29500), (STEP, UI, 3000),
    (STEP, STRANGER, 5000), (STEP, BACKUP, 5000), (STEP, MLFLOW, 22), (STEP, OTHER_TEAM, 80),
    # of a TrainJob
    (JOB, MLFLOW, 5000), (JOB, "203.0.113.7", 443), (JOB, "10.0.0.1", 6443), (JOB, STEP, 80), (JOB, STORE, 8333),
    # from outside
    (OTHER_TEAM, STEP, 80), (OTHER_TEAM, MLFLOW, 5000), (OTHER_TEAM, JOB, 29500), (OTHER_TEAM, NOTEBOOK, 8888),
    (GATEWAY, STEP, 8080), (GATEWAY, MLFLOW, 5000), (NOTEBOOK, STEP, 80), (NOTEBOOK, MLFLOW, 5000),
    # MLflow and what stands beside it
    (MLFLOW, "192.0.2.11", 5432), (MLFLOW, "203.0.113.7", 5432), (MLFLOW, "203.0.113.7", 9000),
    (MLFLOW, "169.254.169.254", 443), (MLFLOW, STEP, 80), (BACKUP, MLFLOW, 5000), (MLFLOW, BACKUP, 80),
    (STRANGER, "192.0.2.10", 5432), (STRANGER, "203.0.113.7", 443), (STRANGER, MLFLOW, 5000)])
def test_everything_else_is_closed(source: Pod, target: Pod | str, port: int) -> None:
    assert not reaches(source, target, port)
