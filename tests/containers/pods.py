"""Pods as the manifests say, run by Docker: commands, settings, secrets, volumes and what the containers may not do.

All of them are on this machine's network, where every service's name is 127.0.0.1.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Cluster:
    """Rendered objects, the secrets that an administrator made, images by the names in the manifests, a scratch
    folder."""

    objects: list[dict[str, Any]]
    secrets: dict[str, dict[str, str]]
    images: dict[str, str]
    folder: Path

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """An object; names that end with a hash of what they hold are found without it."""
        return next(found for found in self.objects if found["kind"] == kind
                    and (found["metadata"]["name"] == name or found["metadata"]["name"].startswith(f"{name}-")))

    @contextmanager
    def running(self, kind: str, name: str) -> Iterator[None]:
        """The pod of a Deployment or StatefulSet: its init containers over, its containers ready."""
        found = self.find(kind, name)
        template = found["spec"]["template"]
        places = self._volumes(name, found, template)
        for container in template["spec"].get("initContainers", []):
            self._finish(name, template, container, places)
        started = []
        try:
            for container in template["spec"]["containers"]:
                label = f"parapet-test-{name}-{container['name']}"
                _docker("rm", "--force", label)
                done = _docker("run", "--detach", "--name", label, *self._options(template, container, places))
                assert done.returncode == 0, done.stderr
                started.append(label)
                self._until_ready(label, container)
            yield
        finally:
            for label in started:
                _docker("stop", "--time", "30", label)
                _docker("rm", "--force", label)

    def job(self, cron_job: str, **environment: str) -> str:
        """What a CronJob's pod, run once, prints; with some of its variables set otherwise."""
        template = self.find("CronJob", cron_job)["spec"]["jobTemplate"]["spec"]["template"]
        places = self._volumes(cron_job, {"spec": {}}, template)
        return "".join(self._finish(cron_job, template, container, places, environment) for container in
                       [*template["spec"].get("initContainers", []), *template["spec"]["containers"]])

    def probe(self, kind: str, name: str, probe: str) -> subprocess.CompletedProcess[str]:
        """What a probe of a running pod that is a command says now."""
        container, = self.find(kind, name)["spec"]["template"]["spec"]["containers"]
        return self.execute(kind, name, *container[probe]["exec"]["command"])

    def execute(self, kind: str, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """What a command says in the container of a running pod."""
        container, = self.find(kind, name)["spec"]["template"]["spec"]["containers"]
        return _docker("exec", f"parapet-test-{name}-{container['name']}", *command)

    def change_secret(self, pod: str, secret: str, values: dict[str, str]) -> None:
        """Put other values into a secret; the files of the pod that mounts it follow, as the kubelet does it."""
        self.secrets[secret] |= values
        for path in (self.folder / pod).glob(f"*/.{secret}"):
            for name in values:
                if (path.parent / name).exists():
                    (path.parent / name).write_text(values[name])

    def _finish(self, pod: str, template: dict[str, Any], container: dict[str, Any], places: dict[str, Path],
                environment: dict[str, str] | None = None) -> str:
        done = _docker("run", "--rm", *self._options(template, container, places, environment or {}))
        assert done.returncode == 0, f"{pod}/{container['name']}: {done.stdout}{done.stderr}"
        return done.stdout

    def _options(self, template: dict[str, Any], container: dict[str, Any], places: dict[str, Path],
                 environment: dict[str, str] | None = None) -> list[str]:
        spec, security = template["spec"], container["securityContext"]
        user = spec["securityContext"]
        assert user["runAsNonRoot"] and security["readOnlyRootFilesystem"]
        words = ["--network=host", "--read-only", f"--user={user['runAsUser']}:{user['runAsGroup']}",
                 *(f"--cap-drop={name}" for name in security["capabilities"]["drop"]),
                 "--security-opt=no-new-privileges", f"--memory={_bytes(container['resources']['limits']['memory'])}",
                 *(f"--add-host={found['metadata']['name']}:127.0.0.1" for found in self.objects
                   if found["kind"] == "Service")]
        for name, value in {**self._environment(container), **(environment or {})}.items():
            words += ["--env", f"{name}={value}"]
        for mount in container["volumeMounts"]:
            words += ["--volume", f"{places[mount['name']]}:{mount['mountPath']}{':ro' * mount.get('readOnly', False)}"]
        return [*words, self.images[container["image"]], *container.get("command", []), *container.get("args", [])]

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            values |= self.find("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            values[variable["name"]] = self.secrets[wanted["name"]][wanted["key"]] if wanted else variable["value"]
        return values

    def _volumes(self, pod: str, found: dict[str, Any], template: dict[str, Any]) -> dict[str, Path]:
        """A folder for each volume; those of claims stay from one start to the next."""
        places = {}
        volumes = [*template["spec"].get("volumes", []),
                   *(claim["metadata"] for claim in found["spec"].get("volumeClaimTemplates", []))]
        for volume in volumes:
            place = places[volume["name"]] = self.folder / pod / volume["name"]
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)  # what fsGroup is for
            if "configMap" in volume:
                for name, text in self.find("ConfigMap", volume["configMap"]["name"])["data"].items():
                    (place / name).write_text(text)
                    (place / name).chmod(0o644)
            if secret := volume.get("secret"):
                (place / f".{secret['secretName']}").touch()
                for item in secret["items"]:
                    path = place / item["path"]
                    path.write_text(self.secrets[secret["secretName"]][item["key"]])
                    os.chown(path, 0, template["spec"]["securityContext"]["fsGroup"])
                    path.chmod(secret["defaultMode"])
        return places

    def _until_ready(self, label: str, container: dict[str, Any]) -> None:
        """By the container's own startup probe."""
        probe = container["startupProbe"]
        until = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
        while time.monotonic() < until:
            if "exec" in probe and _docker("exec", label, *probe["exec"]["command"]).returncode == 0:
                return
            if "httpGet" in probe:
                port = next(port["containerPort"] for port in container["ports"]
                            if port["name"] == probe["httpGet"]["port"])
                scheme = probe["httpGet"].get("scheme", "HTTP").lower()
                try:
                    # Like the kubelet, whoever the certificate is of.
                    urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=5,
                                           context=ssl._create_unverified_context()).close()
                    return
                except (urllib.error.URLError, OSError):
                    pass
            if _docker("inspect", "--format", "{{.State.Running}}", label).stdout.strip() != "true":
                break
            time.sleep(1)
        said = _docker("logs", label)
        raise AssertionError(f"{label} is not ready: {said.stdout[-2000:]}{said.stderr[-2000:]}")


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False)


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 2**20, "Gi": 2**30}[quantity[-2:]]
