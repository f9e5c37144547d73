"""Finds, creates, awaits and deletes TrainJobs on the Kubernetes API; an API error becomes one sentence."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.errors import InputError, WorkError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
# Seconds that one request may take, and for which the server may be unreachable.
_TIMEOUT, _PATIENCE = 30.0, 900.0
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect() -> tuple[ApiClient, str]:
    """A client of the cluster that this pod is in, or that kubeconfig names, and the namespace.

    Raises InputError where there is neither.
    """
    from kubernetes import client, config

    try:
        config.load_incluster_config()
        return client.ApiClient(), _NAMESPACE.read_text(encoding="utf-8").strip()
    except (config.ConfigException, FileNotFoundError):
        pass
    where = os.environ.get("KUBECONFIG")  # the client reads this at its import, and it may have changed since
    try:
        config.load_kube_config(where)
        return client.ApiClient(), config.list_kube_config_contexts(where)[1]["context"].get("namespace", "default")
    except (config.ConfigException, TypeError):
        raise InputError("a TrainJob is asked for, and this is neither a pod of a cluster nor is there a kubeconfig; "
                         "leave training_runtime out of the cluster's file to train in the task itself.") from None


def find(client: ApiClient, namespace: str, name: str) -> dict[str, Any] | None:
    """A job by its name; None where there is none."""
    from kubernetes.client import CustomObjectsApi
    from kubernetes.client.exceptions import ApiException

    with refused("reading a TrainJob", "Kubeflow Trainer, and the role parapet-pipeline"):
        try:
            job: dict[str, Any] = CustomObjectsApi(client).get_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, name, _request_timeout=_TIMEOUT)
            return job
        except ApiException as error:
            if error.status != 404:
                raise
            return None


def create(client: ApiClient, body: dict[str, Any]) -> None:
    """Create a job, unless one with its name exists."""
    from kubernetes.client import CustomObjectsApi
    from kubernetes.client.exceptions import ApiException

    with refused("creating a TrainJob", "Kubeflow Trainer 2.2 or later, and the role parapet-pipeline"):
        try:
            CustomObjectsApi(client).create_namespaced_custom_object(
                GROUP, VERSION, body["metadata"]["namespace"], PLURAL, body, _request_timeout=_TIMEOUT)
        except ApiException as error:
            if error.status != 409:  # an earlier try of this task has created it
                raise


def delete(client: ApiClient, namespace: str, name: str, pause: float) -> None:
    """Delete a job with its pods, and wait until they are gone."""
    from kubernetes.client import CustomObjectsApi, V1DeleteOptions
    from kubernetes.client.exceptions import ApiException

    while find(client, namespace, name) is not None:
        with refused("deleting a TrainJob", "the role parapet-pipeline"):
            try:
                CustomObjectsApi(client).delete_namespaced_custom_object(
                    GROUP, VERSION, namespace, PLURAL, name, body=V1DeleteOptions(propagation_policy="Foreground"),
                    _request_timeout=_TIMEOUT)
            except ApiException as error:
                if error.status != 404:
                    raise
        time.sleep(pause)


def wait(client: ApiClient, namespace: str, name: str, pause: float, alive: Callable[[], None]) -> str | None:
    """Wait until the job has ended; returns None where it is complete, else why it failed.

    `alive` is called every `pause` seconds. The API server may be unreachable for up to 15 minutes, because the job
    runs without it; then WorkError is raised.
    """
    answered = time.monotonic()
    while True:
        alive()
        try:
            job, answered = find(client, namespace, name), time.monotonic()
        except WorkError:
            if time.monotonic() - answered > _PATIENCE:
                raise
            time.sleep(pause)
            continue
        if job is None:
            return "it was deleted"
        if condition(job, "Complete"):
            return None
        if (failed := condition(job, "Failed")) is not None:
            return failed.get("message") or failed.get("reason") or "it does not say why"
        time.sleep(pause)


def condition(job: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition `kind` of a job if its status is True, else None."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), None)


@contextmanager
def refused(what: str, needed: str) -> Iterator[None]:
    """Turn a refusal by Kubernetes into an InputError with what is `needed`, and other failures into a WorkError."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        said = f"{what} was refused by Kubernetes ({error.status} {error.reason}: {_message(error)})"
        if error.status in (400, 401, 403, 404, 422):
            raise InputError(f"{said}; it needs {needed}.") from None
        raise WorkError(f"{said}.") from None
    except HTTPError as error:
        raise WorkError(f"{what}: Kubernetes does not answer ({error}).") from None


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return "no reason given"
