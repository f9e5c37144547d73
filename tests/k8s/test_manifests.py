"""The manifests as kubectl renders them: valid for several versions, hardened, and without loose ends."""

from __future__ import annotations

import configparser
import copy
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from parapet.processes import train_job, train_job_api
from tests.k8s import custom_resources

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("dev", "prod")
VERSIONS = ("1.35", "1.36", "1.37")
# What an administrator makes, as k8s/README.md says.
OUTSIDE = {"mlflow-database": {"username", "password", "ca.crt"},
           "mlflow-admin": {"username", "password", "flask-secret-key"},
           "mlflow-object-store": {"access-key-id", "secret-access-key"},
           "mlflow-backup-store": {"access-key-id", "secret-access-key"},
           "mlflow-tls": {"tls.crt", "tls.key"}, "postgres-tls": {"tls.crt", "tls.key"}}
# Labels of pods that Kubeflow, Argo and JobSet make, by which policies go.
THEIRS = ({"workflows.argoproj.io/workflow": "run", "pipelines.kubeflow.org/v2_component": "true"},
          {"jobset.sigs.k8s.io/jobset-name": "job"}, {"app": "ml-pipeline"}, {"component": "metadata-grpc-server"},
          {"app": "seaweedfs"}, {"app": "minio"}, {"notebook-name": "somebody-s"})
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
        if found["kind"] == "TrainingRuntime":
            spec = spec["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
        if "template" in spec:
            yield f"{found['kind']} {found['metadata']['name']}", spec["template"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def problems(objects: list[dict[str, Any]]) -> list[str]:
    """Everything that is wrong, a sentence each."""
    names = {(found["kind"], found["metadata"]["name"]) for found in objects}
    checks = (_hardening, _references, _services, _policies, _quotas)
    return [text for check in checks for text in check(objects, names)]


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
            if not name.startswith("TrainingRuntime") and {"requests", "limits"} - set(container.get("resources", {})):
                yield f"{where} has no requests or no limits"
        if not name.startswith(("CronJob", "TrainingRuntime")):
            for container in spec["containers"]:
                if missing := {"startupProbe", "readinessProbe", "livenessProbe"} - set(container):
                    yield f"{name}/{container['name']} has no {', '.join(sorted(missing))}"


def _references(objects: list, names: set) -> Iterator[str]:
    for name, template in pods(objects):
        spec = template["spec"]
        # Account and resources of a TrainingRuntime's pods come with the job.
        account = spec.get("serviceAccountName", "default")
        if not name.startswith("TrainingRuntime") and ("ServiceAccount", account) not in names:
            yield f"{name} runs as {account}, which is not there"
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in names:
                yield f"{name} mounts {volume['configMap']['name']}, which is not there"
            if secret := volume.get("secret"):
                keys = {item["key"] for item in secret["items"]}
                if keys - OUTSIDE.get(secret["secretName"], set()):
                    yield f"{name} mounts {sorted(keys)} of {secret['secretName']}, which nobody makes"
                if secret["defaultMode"] != 0o440:
                    yield f"{name} lets everybody in its pod read {secret['secretName']}"
        for container in containers(template):
            if strange := {mount["name"] for mount in container.get("volumeMounts", [])} - set(volumes) - {"data"}:
                yield f"{name}/{container['name']} mounts {', '.join(sorted(strange))}, which is not there"
            for source in container.get("envFrom", []):
                if ("ConfigMap", source["configMapRef"]["name"]) not in names:
                    yield f"{name} reads {source['configMapRef']['name']}, which is not there"
            for variable in container.get("env", []):
                wanted = variable.get("valueFrom", {}).get("secretKeyRef")
                if wanted and wanted["key"] not in OUTSIDE.get(wanted["name"], set()):
                    yield f"{name} wants {wanted['key']} of {wanted['name']}, which nobody makes"


def _services(objects: list, names: set) -> Iterator[str]:
    labels = _labels(objects)
    for found in objects:
        selector = found.get("spec", {}).get("selector")
        if found["kind"] == "PodDisruptionBudget":
            selector = selector["matchLabels"]
        if found["kind"] in ("Service", "PodDisruptionBudget") and not any(
                selector.items() <= each.items() for each in labels):
            yield f"{found['kind']} {found['metadata']['name']} selects no pod"
        if found["kind"] == "Service":
            ports = {port["name"] for _, template in pods(objects)
                     if selector.items() <= template["metadata"].get("labels", {}).items()
                     for container in containers(template) for port in container.get("ports", [])}
            for port in found["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"Service {found['metadata']['name']} leads to {port['targetPort']}, which no container has"


def _labels(objects: list) -> list[dict[str, str]]:
    return [template["metadata"].get("labels", {}) for _, template in pods(objects)]


def _policies(objects: list, names: set) -> Iterator[str]:
    """A policy that selects nothing, or lets in nobody, protects nothing, without a word."""
    labels = [*_labels(objects), *THEIRS]
    for found in objects:
        if found["kind"] != "NetworkPolicy":
            continue
        name, spec = found["metadata"]["name"], found["spec"]
        peers = [peer for rule in [*spec.get("ingress", []), *spec.get("egress", [])]
                 for peer in [*rule.get("from", []), *rule.get("to", [])]]
        for selector in [spec["podSelector"], *(peer["podSelector"] for peer in peers if "podSelector" in peer)]:
            if not any(_selects(selector, each) for each in labels):
                yield f"NetworkPolicy {name} selects no pod"


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for each in selector.get("matchExpressions", []):
        value, there = labels.get(each["key"]), each["key"] in labels
        if not {"In": value in each.get("values", ()), "Exists": there, "DoesNotExist": not there}[each["operator"]]:
            return False
    return True


def _quotas(objects: list, names: set) -> Iterator[str]:
    """What there is in a namespace, everything at once and one more of each Deployment while it is rolled out."""
    for quota in (found for found in objects if found["kind"] == "ResourceQuota"):
        namespace, used = quota["metadata"]["namespace"], {"pods": 0.0}
        for found in objects:
            if found["metadata"].get("namespace") != namespace:
                continue
            for _, template in pods([found]):
                count = found["spec"].get("replicas", 1) + (found["kind"] == "Deployment")
                used["pods"] += count
                for kind in ("requests", "limits"):
                    for resource in ("cpu", "memory"):
                        each = [_quantity(container["resources"][kind][resource]) for container in
                                template["spec"]["containers"] if container.get("resources")]
                        first = [_quantity(container["resources"][kind][resource]) for container in
                                 template["spec"].get("initContainers", [])]
                        key = f"{kind}.{resource}"
                        used[key] = used.get(key, 0.0) + count * max([sum(each), *first])
        hard = quota["spec"]["hard"]
        for key, value in used.items():
            if key in hard and value > _quantity(limit := hard[key]):
                yield f"ResourceQuota of {namespace}: {key} of all pods is {value:g}, above {limit}"


def _quantity(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(m|Mi|Gi|)", str(text)).groups()
    return float(number) * {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30, "": 1.0}[unit]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_to_the_last_field(objects: list, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for found in objects:
        if not custom_resources.is_custom(found):
            validator.validate(found, version, strict=True)


@pytest.mark.skipif(custom_resources.folder() is None, reason=custom_resources.MISSING)
def test_custom_resources_meet_their_published_schemas() -> None:
    found = [each for each in render("prod") if custom_resources.is_custom(each)]
    assert {each["kind"] for each in found} == {"ResourceFlavor", "ClusterQueue", "LocalQueue", "TrainingRuntime"}
    for each in found:
        assert custom_resources.problems(each) == [], each["metadata"]["name"]
    spec = train_job.TrainJobSpec("parapet-torch", 2, 4, "cuda", {"cpu": "8", "nvidia.com/gpu": "4"}, 7200, "2Gi", 1000,
                              "parapet", {"nvidia.com/gpu.product": "H100"},
                              [{"key": "nvidia.com/gpu", "operator": "Exists"}])
    context = train_job.PodContext("team", "registry.example/parapet@sha256:0", [], "parapet-pipeline",
                                   "run-workspace", "/data")
    job = train_job.manifest("parapet-0123456789ab-01234567", Path("/data/request.json"), context, spec, threads=1)
    assert custom_resources.problems(job) == []


@pytest.mark.skipif(custom_resources.folder() is None, reason=custom_resources.MISSING)
@pytest.mark.parametrize(("kind", "change", "sentence"), [
    ("LocalQueue", {"clusterQueu": "parapet"}, "Additional properties are not allowed ('clusterQueu' was unexpected)"),
    ("ClusterQueue", {"queueingStrategy": "Fair"}, "$.spec.queueingStrategy: 'Fair' is not one of"),
    ("TrainingRuntime", {"mlPolicy": {"numNodes": "two"}}, "$.spec.mlPolicy.numNodes: 'two' is not of type 'integer'"),
])
def test_what_a_schema_does_not_allow_is_found(kind: str, change: dict[str, Any], sentence: str) -> None:
    found = copy.deepcopy(next(each for each in render("prod") if each["kind"] == kind))
    found["spec"].update(change)
    assert any(sentence in problem for problem in custom_resources.problems(found)), custom_resources.problems(found)


def test_a_queue_is_not_preceded_by_a_quota_that_refuses_what_should_wait() -> None:
    prod, dev = ({found["metadata"]["namespace"]: found["spec"]["hard"] for found in render(overlay)
                  if found["kind"] == "ResourceQuota"}["kubeflow-user-example-com"] for overlay in ("prod", "dev"))
    queue = next(found for found in render("prod") if found["kind"] == "ClusterQueue")
    queued = {resource for group in queue["spec"]["resourceGroups"] for resource in group["coveredResources"]}
    assert queued == {"cpu", "memory", "nvidia.com/gpu"}
    assert not {f"requests.{name}" for name in queued} & set(prod)
    assert dev["requests.nvidia.com/gpu"] == "8" and "requests.cpu" in dev


def test_the_pipelines_may_make_train_jobs_and_nothing_else_more() -> None:
    roles = {overlay: next(found for found in render(overlay) if found["kind"] == "Role") for overlay in OVERLAYS}
    more = [rule for rule in roles["prod"]["rules"] if rule not in roles["dev"]["rules"]]
    assert more == [{"apiGroups": ["trainer.kubeflow.org"], "resources": ["trainjobs"],
                     "verbs": ["create", "get", "delete"]}]
    needed = {"create_namespaced_custom_object", "get_namespaced_custom_object", "delete_namespaced_custom_object"}
    used = {name for module in (train_job, train_job_api)
            for name in re.findall(r"\w+_namespaced_\w+", Path(module.__file__).read_text())}
    assert used == needed | {"read_namespaced_pod"}


def test_the_queue_of_the_cluster_file_and_the_runtime_are_the_ones_that_there_are() -> None:
    objects = render("prod")
    names = {found["kind"]: found["metadata"] for found in objects if custom_resources.is_custom(found)}
    text = (K8S.parent / "pipelines/cluster.yaml").read_text()
    assert f"# queue: {names['LocalQueue']['name']} " in text
    assert f"# training_runtime: {names['TrainingRuntime']['name']} " in text
    account = next(found for found in objects if found["kind"] == "ServiceAccount"
                   and found["metadata"]["name"] == "parapet-pipeline")
    assert names["LocalQueue"]["namespace"] == names["TrainingRuntime"]["namespace"] \
        == account["metadata"]["namespace"]
    runtime = next(found for found in objects if found["kind"] == "TrainingRuntime")
    job, = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    container, = job["template"]["spec"]["template"]["spec"]["containers"]
    # The names that a TrainJob's patches go by.
    assert (job["name"], container["name"]) == (train_job._NODE, train_job._NODE)
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}


def test_nothing_is_wrong(objects: list) -> None:
    assert problems(objects) == []


def test_production_names_its_images_by_digest_and_denies_by_default() -> None:
    objects = render("prod")
    images = {container["image"] for _, template in pods(objects) for container in containers(template)}
    assert len(images) == 3 and all("@sha256:" in image for image in images)
    policies = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    settings = next(found["data"] for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    assert settings["PGSSLMODE"] == "verify-full" and "mlflow.parapet.svc:*" in settings["MLFLOW_SERVER_ALLOWED_HOSTS"]
    namespace = next(found for found in objects if found["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_backups_are_under_a_key_and_in_a_bucket_that_mlflow_does_not_have(objects: list) -> None:
    read = {name: {variable["valueFrom"]["secretKeyRef"]["name"] for container in containers(template)
                   for variable in container.get("env", []) if "valueFrom" in variable}
            | {volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume}
            for name, template in pods(objects)}
    assert read["Deployment mlflow"] == {"mlflow-database", "mlflow-admin", "mlflow-object-store", "mlflow-tls"}
    for name in ("CronJob mlflow-backup", "CronJob mlflow-restore"):
        assert read[name] == {"mlflow-database", "mlflow-backup-store"}
    settings = next(found["data"] for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    buckets = [settings[name].split("/")[2] for name in ("MLFLOW_ARTIFACTS_DESTINATION", "BACKUP_DESTINATION")]
    assert len(set(buckets)) == 2


def test_passwords_and_runs_travel_under_tls_alone(objects: list) -> None:
    settings = next(found["data"] for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    assert settings["PGSSLMODE"] == "verify-full"
    for name, template in pods(objects):
        for container in containers(template):
            reads = {variable["name"] for variable in container.get("env", [])}
            folders = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
            if "PGPASSWORD" in reads:
                assert str(Path(settings["PGSSLROOTCERT"]).parent) in folders, name
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container.get(kind, {}).get("httpGet", {}).get("scheme", "HTTPS") == "HTTPS", name
    server, = _deployment(objects)["spec"]["containers"]
    folder = next(mount["mountPath"] for mount in server["volumeMounts"] if mount["name"] == "tls")
    assert server["command"][-2:] == [
        "--uvicorn-opts", f"--ssl-certfile={folder}/tls.crt --ssl-keyfile={folder}/tls.key"]
    for database in (found for found in objects if found["kind"] == "StatefulSet"):
        container, = database["spec"]["template"]["spec"]["containers"]
        assert "ssl=on" in container["args"] and "hba_file=/etc/postgres/pg_hba.conf" in container["args"]
        access = next(found["data"] for found in objects if found["metadata"]["name"].startswith("postgres-access"))
        rules = [line.split() for line in access["pg_hba.conf"].splitlines() if not line.startswith("#")]
        assert [(rule[0], rule[-1]) for rule in rules] == [
            ("local", "trust"), ("hostssl", "scram-sha-256"), ("hostnossl", "reject")]


def test_cert_manager_makes_the_certificates_that_are_mounted_for_the_names_that_are_asked(tmp_path: Path) -> None:
    names = ("cert-manager", "cert-manager-postgres")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({
        "resources": [os.path.relpath(K8S / "overlays/dev", tmp_path)],
        "components": [os.path.relpath(K8S / "components" / name, tmp_path) for name in names]}))
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    certificates = {found["spec"]["secretName"]: found["spec"] for found in objects if found["kind"] == "Certificate"}
    issuers = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "Issuer"}
    secrets = [volume["secret"]["secretName"] for _, template in pods(objects)
               for volume in template["spec"].get("volumes", []) if "secret" in volume]
    mounted = {name for name in secrets if name.endswith("-tls")}
    assert set(certificates) == mounted | {"parapet-ca"} == {"mlflow-tls", "postgres-tls", "parapet-ca"}
    authority = certificates["parapet-ca"]
    assert authority["isCA"] and issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    settings = next(found["data"] for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    assert settings["PGHOST"] in certificates["postgres-tls"]["dnsNames"]
    hosts = {host.partition(":")[0] for host in settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")}
    known = certificates["mlflow-tls"]
    assert hosts == {*known["dnsNames"], *known["ipAddresses"]}
    if custom_resources.folder() is not None:
        for found in objects:
            if custom_resources.is_custom(found):
                assert custom_resources.problems(found) == [], found["metadata"]["name"]
    for name in mounted:
        issuer = issuers[certificates[name]["issuerRef"]["name"]]
        assert issuer == {"ca": {"secretName": "parapet-ca"}} and not certificates[name].get("isCA")


def test_an_account_sees_nothing_that_it_did_not_make_or_get(objects: list) -> None:
    files = next(found["data"] for found in objects if found["metadata"]["name"].startswith("mlflow-files"))
    settings = configparser.ConfigParser()
    settings.read_string(files["basic_auth.ini"])
    assert settings["mlflow"]["default_permission"] == "NO_PERMISSIONS"


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
    "mounts ['ca.key'] of mlflow-database, which nobody makes": lambda objects: next(
        each for each in _deployment(objects)["spec"]["volumes"] if each["name"] == "database-ca")["secret"].update(
            items=[{"key": "ca.key", "path": "ca.key"}]),
    "Deployment mlflow/mlflow mounts tls, which is not there": lambda objects: _deployment(objects)["spec"][
        "volumes"].pop(),
    "Service mlflow selects no pod": lambda objects: next(
        found for found in objects if found["kind"] == "Service" and found["metadata"]["name"] == "mlflow")[
            "spec"].update(selector={"app": "ghost"}),
    "NetworkPolicy database selects no pod": lambda objects: next(
        found for found in objects if found["kind"] == "NetworkPolicy")["spec"]["ingress"][0]["from"][0]["podSelector"][
            "matchExpressions"][0].update(values=["mlfow"]),
    "requests.cpu of all pods is": lambda objects: next(
        found for found in objects if found["kind"] == "Deployment")["spec"].update(replicas=20),
    "is a secret that lies in the repository": lambda objects: objects.append(
        {"kind": "Secret", "metadata": {"name": "plain"}}),
}


@pytest.mark.parametrize("sentence", PLANTED)
def test_the_check_finds_what_is_planted(sentence: str) -> None:
    objects = copy.deepcopy(render("dev"))
    PLANTED[sentence](objects)
    assert any(sentence in problem for problem in problems(objects)), problems(objects)
