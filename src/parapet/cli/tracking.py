"""The address of MLflow, from the environment, and a tracker for the duration of a verb."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parapet.cli.project import project
from parapet.config import Params
from parapet.cores import Cores
from parapet.disk.files import write_text
from parapet.errors import InputError
from parapet.tracking import BackgroundSender, NullTracker, Outbox, SystemMetrics
from parapet.tracking.address import SERVERS, address_problem, kind, shown, sqlite_path
from parapet.tracking.relocation import relocate
from parapet.tracking.tracker import Tracker

_LOCAL_PAGE = "http://127.0.0.1:5000"
# Long enough for the last generation's runs on SQLite; what is not sent by then is sent by the next run.
_CLOSE_SECONDS = 120.0


@dataclass(frozen=True)
class Gateway:
    """An MLflow tracking server: its URI, the folder of artifacts where there is no server, and its web page."""

    uri: str
    artifacts: Path | None
    page: str


def gateway() -> Gateway:
    """MLFLOW_TRACKING_URI, else `sqlite:///mlflow.db` with artifacts in `mlruns/` of the project's folder.

    If the folder was moved or copied, the addresses in its database are updated. Raises InputError if the database was
    copied without its artifacts, and for an address that MLflow does not accept.
    """
    here = project()
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{here / 'mlflow.db'}"
    if (fault := address_problem(uri)) is not None:
        raise InputError(fault)
    if kind(uri) in SERVERS:
        return Gateway(uri, None, shown(uri))
    # A database outside the project is not changed: only its owner knows where its artifacts are.
    if (database := sqlite_path(uri)) is not None and database.is_file() and database.resolve().parent == here:
        relocate(database, here / "mlruns")
    return Gateway(uri, here / "mlruns", _LOCAL_PAGE)


def page() -> str:
    """The address of MLflow's pages, without a password."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return shown(uri) if kind(uri) in SERVERS else _LOCAL_PAGE


def registry_uri() -> str:
    """The address of a registry that must exist. Raises InputError for a missing SQLite file, and as `gateway` does."""
    uri = gateway().uri
    if (path := sqlite_path(uri)) is not None and not path.exists():
        raise InputError(f"{path}, MLflow's database with the registered models, does not exist; promote a model "
                         "first, or set MLFLOW_TRACKING_URI to where they are.")
    return uri


@contextmanager
def tracked(params: Params, cache: Path) -> Iterator[Tracker]:
    """A tracker that sends in the background; at the end it prints whether records are still waiting."""
    if not params.tracking.enabled:
        yield NullTracker()
        return
    where, outbox, said = gateway(), Outbox(cache / "outbox"), cache / "outbox-said.txt"
    gate, every = Cores(cache / "locks").shared, params.tracking.system_metrics_seconds
    sender = BackgroundSender(outbox, where.uri, params.tracking.experiment, where.artifacts, gate=gate,
                              tell=lambda text: _tell_once(text, said))
    machine = SystemMetrics(outbox, every, gate) if every else None
    try:
        yield outbox
    finally:
        if machine is not None:
            machine.close()
        waiting = sender.close(_CLOSE_SECONDS)
    if waiting:
        _tell_once("Records wait for MLflow; they are sent by the next run, or by `parapet sync`.", said)
    else:
        said.unlink(missing_ok=True)


def _tell_once(text: str, said: Path) -> None:
    """Print `text`, unless an earlier stage printed it since everything was last sent."""
    before = said.read_text(encoding="utf-8").splitlines() if said.exists() else []
    if text not in before:
        write_text(said, "\n".join([*before, text]) + "\n")
        print(text, flush=True)


def git_revision() -> str:
    """The working directory's commit, `unknown` outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
