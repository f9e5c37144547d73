"""Connections to MLflow, and the difference between a server that is away and one that refuses.

Whether MLflow can be reached is asked without it: MlflowClient has no function for that, its requests are retried for
minutes, and importing it takes seconds.
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

from parapet.disk.files import digest, scratch_folder
from parapet.redaction import redacted
from parapet.tracking.address import DATABASES, SERVERS, address_problem, kind, shown, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LONGEST_SENTENCE = 400
_HEADER = b"SQLite format 3\0"


def connect(uri: str) -> MlflowClient:
    """A client of `uri`; the first call in a process imports MLflow, which takes seconds."""
    without_telemetry()
    from mlflow import MlflowClient, environment_variables

    # No retries inside: a request whose answer was lost would be sent twice and create a second run.
    # The outbox retries, and looks for the run first.
    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
    if not environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.is_set():
        environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    # Its warnings and tracebacks would repeat what the user reads once, in one sentence.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    _make_database(sqlite_path(uri))
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_database(path: Path | None) -> None:
    """Create the SQLite file whole or not at all.

    MLflow creates its tables one after the other for seconds, and a file whose creation was killed can never be used
    again. MlflowClient creates them as well, but with the working directory as the place of artifacts, and it has no
    argument for another one; hence MLflow's store.
    """
    if path is None or path.exists() or not path.parent.is_dir():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with scratch_folder(path) as folder:
        partial = folder / path.name
        # The address of the first experiment records where the project lay then (relocation).
        store = SqlAlchemyStore(f"sqlite:///{partial}", str(path.parent.resolve() / "mlruns"))
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process has created it, and may have used it already
            os.link(partial, path)


def without_telemetry() -> None:
    """To be called before MLflow is imported, which otherwise reports its use to its developers over the network."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def unreachable(uri: str, timeout: float = 2.0) -> str | None:
    """Why MLflow at `uri` cannot be used now, as one sentence; None where no reason was found."""
    if (fault := address_problem(uri)) is not None:
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


def unusable_database(uri: str) -> str | None:
    """Why the SQLite file at `uri` is not a database or may not be written, as one sentence; None where it is one that
    may, and for servers."""
    path = sqlite_path(uri)
    if path is None:
        return None
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    closed = next((place for place in (folder, path) if place.exists() and not os.access(place, os.W_OK)), None)
    if closed is not None:
        return (f"{closed} cannot be written, and MLflow's database {path} needs it; correct its permissions, or set "
                "MLFLOW_TRACKING_URI to another database or server.")
    return None if _is_database(path) else (
        f"{path} is no SQLite database, or a damaged one, and MLflow would keep its records there; set "
        "MLFLOW_TRACKING_URI to another file (sqlite:///FILE.db) or to a server, or move that one away.")


def _is_database(path: Path) -> bool:
    """Whether a file begins like an SQLite database; true where there is no file yet."""
    if path.is_dir():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(len(_HEADER)) in (b"", _HEADER)
    except OSError:  # the next one to open it reports that
        return True


def holds_run(uri: str, run_id: str) -> bool:
    """Whether a run that was sent is still there; a server is trusted, and an SQLite file may have been deleted."""
    if kind(uri) != "sqlite":
        return True
    path = sqlite_path(uri)
    if path is None or not path.is_file() or unreachable(uri) is not None:
        return False
    try:
        return connect(uri).get_run(run_id) is not None
    except Exception:  # MLflow raises many kinds; sending again is safe
        return False


def target(uri: str, experiment: str) -> str:
    """A name for the place that events are sent to: a digest, which does not change with a password."""
    path = sqlite_path(uri)
    return digest([f"sqlite:{path.resolve()}" if path else shown(uri), experiment])


def sentence(error: BaseException) -> str:
    """What an error says, on one line, short, without passwords."""
    # SQLAlchemy appends the statement, in lines of its own.
    words = str(error).partition("\n[SQL: ")[0]
    if isinstance(error, OSError) and error.errno and error.strerror:
        words = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    words = _CLIENT.sub(_client_reason, " ".join(words.split()))
    text = redacted(words or type(error).__name__)
    if isinstance(error, LookupError):
        text = f"{type(error).__name__} {text}"  # its text is a bare key
    return text if len(text) <= _LONGEST_SENTENCE else text[:_LONGEST_SENTENCE - 1] + "…"


# What MLflow's client says when all its attempts failed.
_CLIENT = re.compile(r"(?:API request to \S+ failed with exception )?HTTPS?ConnectionPool\(.*?\): Max retries "
                     r"exceeded with url: .*?\(Caused by \w+\((?P<why>.*)\)\)")


def _client_reason(match: re.Match[str]) -> str:
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
    # 401, 403, 407: credentials may be corrected; 408, 409, 429, 499: may succeed later.
    return 400 <= status < 500 and status not in (401, 403, 407, 408, 409, 429, 499)


def is_overload(error: Exception) -> bool:
    """Whether the store itself said that it cannot take anything now (a locked SQLite file, a full disk)."""
    return getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE" or isinstance(error, OSError)


def _http_problem(uri: str, timeout: float) -> str | None:
    import requests  # as MLflow does, so that proxies and certificates are treated the same way

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
    """Which certificates MLflow's client accepts: a file's, all (False), or those that the system trusts (True)."""
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
    """Tries the port first, where one is known, and then the driver, which MLflow would try for two minutes."""
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
    except Exception:  # no driver, for example: MLflow reports that at once
        return None
    return None


def _root_cause(error: BaseException) -> str:
    """What the operating system said, at the end of a chain of wrapped errors."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__ or \
            next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error = inner if isinstance(inner, BaseException) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return sentence(error)
