"""Imports every module of MLflow that sending needs, in the calling thread, before the sending thread starts.

Two threads that import at once can see each other's partially initialised modules, because Python breaks a deadlock of
its module locks by giving one up. Parapet's threads therefore import nothing. MLflow imports its stores when they are
first used and has no function that imports them all, so that their modules are named here.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil

from parapet.tracking.address import SERVERS, address_problem, kind
from parapet.tracking.connection import without_telemetry

_SENDING = ("mlflow", "mlflow.store.artifact.artifact_repository_registry", "mlflow.store.artifact.local_artifact_repo",
            "mlflow.store.artifact.mlflow_artifacts_repo", "mlflow.store.artifact.http_artifact_repo", "requests",
            "encodings.idna", "stringprep", "netrc", "tempfile", "sqlite3", "http.client", "ssl", "mimetypes")
_SERVER = ("mlflow.store.tracking.rest_store", "mlflow.store.model_registry.rest_store")
_DATABASE = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_workspace_store",
             "mlflow.store.workspace_aware_mixin", "alembic.command", "alembic.config", "mlflow.store.db")
_MONITORS = ("cpu_monitor", "disk_monitor", "gpu_monitor", "network_monitor")


def load_sending(uri: str) -> None:
    """Import what sending events to the MLflow at `uri` needs; seconds, the first time in a process."""
    if address_problem(uri) is not None:
        return  # nothing will be sent
    without_telemetry()
    server = kind(uri) in SERVERS
    _load(*_SENDING, *(_SERVER if server else _DATABASE))
    if server:
        with contextlib.suppress(Exception):  # each request calls plugins, and looks for pyspark and IPython
            from mlflow.tracking.request_header.registry import resolve_request_headers

            resolve_request_headers()
    else:
        with contextlib.suppress(Exception):  # migrations import modules of this package
            package = importlib.import_module("mlflow.store.db")
            _load(*(f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)))
        with contextlib.suppress(Exception):  # an address that cannot be read is reported when something is sent
            from sqlalchemy import create_engine

            create_engine(uri).dispose()  # imports the dialect and its driver, and connects to nothing


def load_monitors() -> None:
    """Import MLflow's monitors of the machine."""
    without_telemetry()
    _load("mlflow", *(f"mlflow.system_metrics.metrics.{name}" for name in _MONITORS))


def _load(*names: str) -> None:
    for name in names:
        # Another version of MLflow may lack a module; a broken one is reported when something is sent.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
