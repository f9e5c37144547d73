"""Serves one version of the registry over HTTP: onnxruntime runs the registered graph in this process.

No other file of the version is read, because MLflow's own loader runs the code that the files name.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from parapet.cores import cpu_count
from parapet.errors import InputError
from parapet.quoting import quote
from parapet.registry.contents import DIGEST_TAG, MODEL, download
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.registry import Registry, Version

if TYPE_CHECKING:
    import numpy as np

# The most simultaneous connections; a further one is answered with 503.
_CLIENTS = 64


def find(registry: Registry, name: str) -> Version:
    """The version with this alias or number. Raises InputError where there is none; the message lists the aliases."""
    if re.fullmatch(r"[0-9]+", name):
        # A longer number does not fit into the column of a registry's table.
        version = registry.version(name) if len(name) < 10 else None
    else:
        version = registry.aliased(name)
    if version is None:
        aliases = registry.aliases()
        there = {alias: number for alias, number in sorted(aliases.items()) if registry.version(number) is not None}
        known = ", ".join(f"{alias} (version {number})" for alias, number in there.items())
        known = known or "it has none yet, so promote a model first"
        gone = f" (it points at version {aliases[name]}, which was deleted)" if name in aliases else ""
        raise InputError(f"the registered model {registry.model_name} has no version {quote(name)}{gone}; give the "
                         f"number of a version or one of its aliases: {known}.")
    if DIGEST_TAG not in version.tags:
        raise InputError(f"version {version.number} of {registry.model_name} has no digest of its graph, so it was "
                         "not registered by `parapet promote` and changed files would not be detected; promote a "
                         "candidate and serve that.")
    return version


def serve(registry: MlflowRegistry, version: Version, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer POST /invocations (and GET /ping) on `host`:`port` until a signal ends this process.

    The application is that of `deployment.http_server`. `ready` is called with the address once requests are accepted.
    Raises InputError where the port cannot be bound, and `Damaged` unless the files of the version are those that were
    registered.
    """
    import uvicorn

    from parapet.deployment.http_protocol import JSONProtocol
    from parapet.deployment.http_server import application
    from parapet.deployment.runtime import session

    with _listening(host, port) as listener:
        with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
            graph = (download(registry, version, Path(folder) / "model") / MODEL).read_bytes()
        running = session(graph, threads=cpu_count())
        [given], names = running.get_inputs(), [output.name for output in running.get_outputs()]

        def answer(images: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(names, running.run(names, {given.name: images})))

        server = uvicorn.Server(uvicorn.Config(
            application(answer, given.name, given.shape[1:], lambda: ready(_address(listener))), log_level="warning",
            access_log=False, lifespan="on", http=JSONProtocol, limit_concurrency=_CLIENTS))
        server.run(sockets=[listener])
        # uvicorn re-raises the signal that ended it, which has no effect if a background shell ignores that signal.
        raise KeyboardInterrupt


def _listening(host: str, port: int) -> socket.socket:
    """A socket that is bound before the model is loaded, so that a port in use (InputError) is reported at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise InputError(f"{host}:{port} cannot be listened on ({why}); give another --host or --port (0 takes any "
                         "free port).") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
