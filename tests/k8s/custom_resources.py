"""The published schemas of the custom resources that are used here: fetched, and strictly applied.

`python -m tests.k8s.custom_resources DIR` fetches them from the projects' releases into DIR, which PARAPET_CRDS names
to the tests. They are not kept in this repository: they are other projects' files. What they say in CEL
(x-kubernetes-validations) is not run.
"""

from __future__ import annotations

import copy
import os
import sys
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

_TRAINER = "https://raw.githubusercontent.com/kubeflow/trainer/v2.3.0/manifests/base/crds/trainer.kubeflow.org_{}.yaml"
_KUEUE = ("https://raw.githubusercontent.com/kubernetes-sigs/kueue/v0.19.2/config/components/crd/bases/"
          "kueue.x-k8s.io_{}.yaml")
_CERT_MANAGER = "https://raw.githubusercontent.com/cert-manager/cert-manager/v1.21.1/deploy/crds/cert-manager.io_{}.yaml"
URLS = [_TRAINER.format(name) for name in ("trainjobs", "trainingruntimes")] + [
    _KUEUE.format(name) for name in ("clusterqueues", "localqueues", "resourceflavors")] + [
    _CERT_MANAGER.format(name) for name in ("certificates", "issuers")]
MISSING = "the schemas are not here: python -m tests.k8s.custom_resources DIR, and PARAPET_CRDS=DIR"


def folder() -> Path | None:
    """Where the schemas are; None where they are not."""
    given = os.environ.get("PARAPET_CRDS")
    return Path(given) if given and all((Path(given) / url.rsplit("/", 1)[1]).is_file() for url in URLS) else None


def is_custom(found: dict[str, Any]) -> bool:
    """Whether an object is of a kind that Kubernetes itself does not know."""
    return found["apiVersion"].partition("/")[0].endswith((".kubeflow.org", "kueue.x-k8s.io",
                                                                "cert-manager.io"))


def problems(found: dict[str, Any]) -> list[str]:
    """Everything in which a custom resource does not meet its schema, unknown fields too."""
    group, _, version = found["apiVersion"].partition("/")
    schema = _schemas().get((group, version, found["kind"]))
    if schema is None:
        return [f"{group}/{version} has no {found['kind']}"]
    errors = jsonschema.Draft202012Validator(schema).iter_errors(found)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


@cache
def _schemas() -> dict[tuple[str, str, str], dict[str, Any]]:
    schemas = {}
    for url in URLS:
        definition = yaml.safe_load((folder() / url.rsplit("/", 1)[1]).read_text())["spec"]
        for version in definition["versions"]:
            if version["served"]:
                schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
                metadata = schema["properties"].pop("metadata", {})
                _close(schema)
                schema["properties"]["metadata"] = {**metadata, "type": "object"}
                schemas[definition["group"], version["name"], definition["names"]["kind"]] = schema
    return schemas


def _close(schema: Any) -> None:
    """Refuse, in every object of a schema, what is not among its properties, as a strict server does."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        # Metadata inside templates are Kubernetes' own, and not spelt out.
        if schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)


def fetch(target: Path) -> None:
    """Bring the schemas into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for url in URLS:
        path = target / url.rsplit("/", 1)[1]
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                path.write_bytes(answer.read())
        except OSError as error:
            sys.exit(f"{url} cannot be fetched ({error}); put that file into {target} by hand.")
    print(f"{len(URLS)} schemas are in {target}")


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
