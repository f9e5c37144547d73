"""The manifests as kubectl renders them: valid for several versions, hardened, and without loose ends."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("dev", "prod")
VERSIONS = ("1.35", "1.36", "1.37")
# What an administrator makes, as k8s/README.md says.
OUTSIDE = {"mlflow-database": {"username", "password"}, "mlflow-admin": {"username", "password", "flask-secret-key"},
           "mlflow-object-store": {"access-key-id", "secret-access-key"}}
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the overlays")


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Everything that an overlay renders."""
    return render(request.param)


def render(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", K8S / "overlays" / overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod template of everything that starts pods."""
    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{found['kind']} {found['metadata']['name']}", spec["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def problems(objects: list[dict[str, Any]]) -> list[str]:
    """Everything that is wrong, a sentence each."""
    names = {(found["kind"], found["metadata"]["name"]) for found in objects}
    return [text for check in (_hardening, _references, _services) for text in check(objects, names)]


def _hardening(objects: list, names: set) -> Iterator[str]:
    for found in objects:
        if found["kind"] == "Secret":
            yield f"{found['metadata']['name']} is a secret that lies in the repository"
    for name, template in pods(objects):
        spec = template["spec"]
        if not spec.get("securityContext", {}).get("runAsNonRoot"):
            yield f"{name} may run as root"
        if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name} holds a token that it does not need"
        for container in containers(template):
            context, where = container.get("securityContext", {}), f"{name}/{container['name']}"
            if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{where} keeps privileges"
            if context.get("readOnlyRootFilesystem") is not True:
                yield f"{where} may write to its image"
            if {"requests", "limits"} - set(container.get("resources", {})):
                yield f"{where} has no requests or no limits"
        if not name.startswith("CronJob"):
            for container in spec["containers"]:
                if missing := {"startupProbe", "readinessProbe", "livenessProbe"} - set(container):
                    yield f"{name}/{container['name']} has no {', '.join(sorted(missing))}"


def _references(objects: list, names: set) -> Iterator[str]:
    for name, template in pods(objects):
        spec = template["spec"]
        if ("ServiceAccount", spec["serviceAccountName"]) not in names:
            yield f"{name} runs as {spec['serviceAccountName']}, which is not there"
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in names:
                yield f"{name} mounts {volume['configMap']['name']}, which is not there"
        for container in containers(template):
            for source in container.get("envFrom", []):
                if ("ConfigMap", source["configMapRef"]["name"]) not in names:
                    yield f"{name} reads {source['configMapRef']['name']}, which is not there"
            for variable in container.get("env", []):
                wanted = variable.get("valueFrom", {}).get("secretKeyRef")
                if wanted and wanted["key"] not in OUTSIDE.get(wanted["name"], set()):
                    yield f"{name} wants {wanted['key']} of {wanted['name']}, which nobody makes"


def _services(objects: list, names: set) -> Iterator[str]:
    labels = [template["metadata"]["labels"] for _, template in pods(objects)]
    for found in objects:
        selector = found.get("spec", {}).get("selector")
        if found["kind"] == "PodDisruptionBudget":
            selector = selector["matchLabels"]
        if found["kind"] in ("Service", "PodDisruptionBudget") and not any(
                selector.items() <= each.items() for each in labels):
            yield f"{found['kind']} {found['metadata']['name']} selects no pod"
        if found["kind"] == "Service":
            ports = {port["name"] for _, template in pods(objects)
                     if selector.items() <= template["metadata"]["labels"].items()
                     for container in containers(template) for port in container.get("ports", [])}
            for port in found["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"Service {found['metadata']['name']} leads to {port['targetPort']}, which no container has"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_to_the_last_field(objects: list, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for found in objects:
        validator.validate(found, version, strict=True)


def test_nothing_is_wrong(objects: list) -> None:
    assert problems(objects) == []


def test_production_names_its_images_by_digest_and_denies_by_default() -> None:
    objects = render("prod")
    images = {container["image"] for _, template in pods(objects) for container in containers(template)}
    assert len(images) == 2 and all("@sha256:" in image for image in images)
    policies = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    settings = next(found["data"] for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    assert settings["PGSSLMODE"] == "require" and "mlflow.parapet.svc:*" in settings["MLFLOW_SERVER_ALLOWED_HOSTS"]
    namespace = next(found for found in objects if found["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def _deployment(objects: list) -> dict[str, Any]:
    return next(template for name, template in pods(objects) if name == "Deployment mlflow")


PLANTED: dict[str, Callable[[list], Any]] = {
    "Deployment mlflow may run as root": lambda objects: _deployment(objects)["spec"]["securityContext"].pop(
        "runAsNonRoot"),
    "Deployment mlflow/mlflow may write to its image": lambda objects: _deployment(objects)["spec"]["containers"][0][
        "securityContext"].pop("readOnlyRootFilesystem"),
    "Deployment mlflow/mlflow has no requests or no limits": lambda objects: _deployment(objects)["spec"][
        "containers"][0].pop("resources"),
    "Deployment mlflow/mlflow has no livenessProbe": lambda objects: _deployment(objects)["spec"]["containers"][0].pop(
        "livenessProbe"),
    "Deployment mlflow runs as ghost, which is not there": lambda objects: _deployment(objects)["spec"].update(
        serviceAccountName="ghost"),
    "wants token of mlflow-admin, which nobody makes": lambda objects: _deployment(objects)["spec"]["containers"][0][
        "env"].append({"name": "T", "valueFrom": {"secretKeyRef": {"name": "mlflow-admin", "key": "token"}}}),
    "Service mlflow selects no pod": lambda objects: next(
        found for found in objects if found["kind"] == "Service" and found["metadata"]["name"] == "mlflow")[
            "spec"].update(selector={"app": "ghost"}),
    "is a secret that lies in the repository": lambda objects: objects.append(
        {"kind": "Secret", "metadata": {"name": "plain"}}),
}


@pytest.mark.parametrize("sentence", PLANTED)
def test_the_check_finds_what_is_planted(sentence: str) -> None:
    objects = copy.deepcopy(render("dev"))
    PLANTED[sentence](objects)
    assert any(sentence in problem for problem in problems(objects)), problems(objects)
