"""Reaching MLflow, and telling a server that is away from one that refuses.

The probes here use the standard library and take seconds at most, because MLflow's own retries take minutes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from parapet.files import digest, scratch_folder
from parapet.redaction import redacted
from parapet.tracking.address import DATABASES, SERVERS, kind, shown, sqlite_path, wrong

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LONGEST_SENTENCE = 400
_HEADER = b"SQLite format 3\0"


def connect(uri: str) -> MlflowClient:
    """A client of `uri`; the first call in a process imports MLflow, which takes seconds."""
    without_telemetry()
    from mlflow import MlflowClient, environment_variables

    # No retries inside: a request whose answer got lost would be sent twice and make a second run.
    # The outbox is the retry, and it looks for the run first.
    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
    if not environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.is_set():
        environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    # Its warnings and tracebacks would repeat what the user is told once, in one sentence.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    _make_database(sqlite_path(uri))
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_database(path: Path | None) -> None:
    """Make the SQLite file whole or not at all.

    MLflow makes its tables one after the other for seconds, and one that was killed in between can never be used again.
    """
    if path is None or path.exists() or not path.parent.is_dir():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with scratch_folder(path) as folder:
        partial = folder / path.name
        # The address of the first experiment says where the project lay then (relocation).
        store = SqlAlchemyStore(f"sqlite:///{partial}", str(path.parent.resolve() / "mlruns"))
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # somebody else made it meanwhile, and may have used it already
            os.link(partial, path)


def without_telemetry() -> None:
    """Before MLflow is imported: unless told otherwise it reports its use to its makers over the network."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def unreachable(uri: str, timeout: float = 2.0) -> str | None:
    """Why MLflow at `uri` cannot be used now, as one sentence; None where nothing speaks against it."""
    if (fault := wrong(uri)) is not None:
        return fault
    if kind(uri) in SERVERS:
        why = _http_problem(uri, timeout)
    elif kind(uri) == "sqlite":
        why = _sqlite_problem(sqlite_path(uri), timeout)
    elif kind(uri) in DATABASES:
        why = _database_problem(uri, timeout)
    else:
        why = None  # databricks and plugins: only MLflow itself knows how to ask
    return None if why is None else f"MLflow at {shown(uri)} is away: {why.rstrip('.?')}."


def closed_database(uri: str) -> str | None:
    """That the SQLite file at `uri` is none, or may not be written, as one sentence; None for what may be, and for
    servers."""
    path = sqlite_path(uri)
    if path is None:
        return None
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    closed = next((place for place in (folder, path) if place.exists() and not os.access(place, os.W_OK)), None)
    if closed is not None:
        return (f"{closed} cannot be written, and MLflow's database {path} needs it; mend its permissions, or set "
                "MLFLOW_TRACKING_URI to another database or server.")
    return None if _is_database(path) else (
        f"{path} is no SQLite database, or a damaged one, and MLflow would keep its records there; set "
        "MLFLOW_TRACKING_URI to another file (sqlite:///FILE.db) or to a server, or move that one away.")


def _is_database(path: Path) -> bool:
    """Whether a file begins as one of SQLite's; true where there is none yet."""
    if path.is_dir():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(len(_HEADER)) in (b"", _HEADER)
    except OSError:  # whoever opens it says so
        return True


def holds_run(uri: str, run_id: str) -> bool:
    """Whether `run_id` may be taken to exist without asking MLflow: a deleted SQLite file shows at once."""
    if not uri.startswith("sqlite"):
        return True
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        return False
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2)
        try:
            return connection.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchone() is not None
        finally:
            connection.close()
    except sqlite3.Error:
        return False


def target(uri: str, experiment: str) -> str:
    """A name for a place that events are sent to: a digest, which does not change with a password."""
    path = sqlite_path(uri)
    return digest([f"sqlite:{path.resolve()}" if path else shown(uri), experiment])


def sentence(error: BaseException) -> str:
    """What an error says, on one line, short, without passwords."""
    # SQLAlchemy puts the statement behind what is wrong with it, in lines of their own.
    words = str(error).partition("\n[SQL: ")[0]
    if isinstance(error, OSError) and error.errno and error.strerror:
        words = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    words = _CLIENT.sub(_plainly, " ".join(words.split()))
    text = redacted(words or type(error).__name__)
    if isinstance(error, LookupError):
        text = f"{type(error).__name__} {text}"  # its text is a bare key
    return text if len(text) <= _LONGEST_SENTENCE else text[:_LONGEST_SENTENCE - 1] + "…"


# What MLflow's client says when all its tries failed.
_CLIENT = re.compile(r"(?:API request to \S+ failed with exception )?HTTPS?ConnectionPool\(.*?\): Max retries "
                     r"exceeded with url: .*?\(Caused by \w+\((?P<why>.*)\)\)")


def _plainly(match: re.Match[str]) -> str:
    why = match["why"]
    if status := re.search(r"too many (\d{3}) error responses", why):
        return f"it answers each time with error {status[1]}"
    if "timed out" in why.lower():
        return "it does not answer in time"
    last = re.sub(r"^\[Errno -?\d+\] ", "", why.rpartition(": ")[2].strip("'\"()<> "))
    return f"it cannot be reached ({last[:1].lower() + last[1:]})"


def is_refusal(error: Exception) -> bool:
    """Whether sending the same again can never help (bad values), as opposed to a server in trouble."""
    response = getattr(error, "response", None)
    if hasattr(error, "get_http_status_code"):  # MlflowException
        status = error.get_http_status_code()
        if getattr(error, "error_code", "") == "ENDPOINT_NOT_FOUND":
            return False  # something else answers at this address
    elif code := getattr(response, "status_code", None):  # requests, from uploads
        status = code
    else:
        return isinstance(error, ValueError | TypeError | LookupError) and not isinstance(error, OSError)
    # 401, 403, 407: credentials may be mended; 408, 409, 429, 499: later.
    return 400 <= status < 500 and status not in (401, 403, 407, 408, 409, 429, 499)


def is_overload(error: Exception) -> bool:
    """Whether the store said itself that it has no time now (a locked SQLite file, a full disk)."""
    return getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE" or isinstance(error, OSError)


def _http_problem(uri: str, timeout: float) -> str | None:
    import requests  # MLflow's own client, so proxies and certificates are understood the same way

    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=timeout, verify=_trusted()).status_code
    except requests.exceptions.SSLError as error:
        return (f"its certificate is not trusted ({_root_cause(error)}); name the file of its authority in "
                "MLFLOW_TRACKING_SERVER_CERT_PATH")
    except requests.exceptions.Timeout:
        return f"no answer within {timeout:g} seconds"
    except (requests.RequestException, ValueError, OSError) as error:
        return _root_cause(error)
    return f"it answers with error {status}" if status >= 500 else None


def _trusted() -> str | bool:
    """Whose certificates MLflow's client takes: a file's, everybody's (False), or those that are known (True)."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _sqlite_problem(path: Path | None, timeout: float) -> str | None:
    if path is None:
        return None
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        return None if folder.is_dir() and os.access(folder, os.W_OK) else f"{folder} is not a folder to write in"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=timeout)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return None


def _database_problem(uri: str, timeout: float) -> str | None:
    """Asks the port first, where one is known, and then the driver: MLflow would ask that for two minutes."""
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import DBAPIError

    address = make_url(uri)
    if address.host is not None:
        try:
            socket.create_connection((address.host, address.port or DATABASES[kind(uri)]), timeout).close()
        except (OSError, ValueError) as error:
            return _root_cause(error)
    try:
        # The drivers of mssql have no common name for such a limit.
        limits = {} if kind(uri) == "mssql" else {"connect_timeout": math.ceil(timeout)}
        engine = create_engine(address, connect_args=limits)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except DBAPIError as error:
        return sentence(error.orig or error)
    except Exception:  # no driver, say: MLflow tells that at once
        return None
    return None


def _root_cause(error: BaseException) -> str:
    """The words of the operating system at the bottom of a chain of wrapped errors."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__ or \
            next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error = inner if isinstance(inner, BaseException) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return sentence(error)
