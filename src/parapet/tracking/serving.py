"""Serving one version of the registry over HTTP, with MLflow's own scoring server in this process."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parapet.errors import InputError
from parapet.quoting import quote
from parapet.tracking.registration import download
from parapet.tracking.registry import Registry, Version


def find(registry: Registry, name: str) -> Version:
    """The version that an alias or a number names; InputError where there is none, with those that there are."""
    if re.fullmatch(r"[0-9]+", name):
        # longer numbers do not fit into the column of a registry's table
        version = registry.version(name) if len(name) < 10 else None
    else:
        version = registry.aliased(name)
    if version is None:
        aliases = registry.aliases()
        known = ", ".join(f"{alias} (version {number})" for alias, number in sorted(aliases.items()))
        raise InputError(f"the registered model {registry.model_name} has no version {quote(name)}; give the number of "
                         f"a version or one of its aliases: {known or 'it has none yet, so promote a model first'}.")
    return version


def serve(registry: Registry, version: Version, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer POST /invocations (and GET /ping) on `host`:`port` until a signal ends this process.

    A request is JSON {"inputs": images (N, C, H, W) in [0, 1]}, the answer {"predictions": {"logits": (N, classes)}}.
    `ready` is called with the address once requests are taken. Raises InputError where the port cannot be had.
    """
    import mlflow.pyfunc
    import uvicorn
    from mlflow.pyfunc import scoring_server

    with tempfile.TemporaryDirectory(prefix="parapet-") as folder, _listening(host, port) as listener:
        model = mlflow.pyfunc.load_model(str(download(registry, version, Path(folder) / "model")))
        server = uvicorn.Server(uvicorn.Config(_told(scoring_server.init(model), lambda: ready(_address(listener))),
                                               log_level="warning", access_log=False, lifespan="on"))
        server.run(sockets=[listener])
        # uvicorn hands the signal that ended it on, but to nobody where a shell had it ignored in the background.
        raise KeyboardInterrupt


def _told(app: Any, ready: Callable[[], None]) -> Any:
    """`app`, an ASGI application, that calls `ready` when it starts."""
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def sending(message: dict[str, Any]) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                ready()
        await app(scope, receive, sending if scope["type"] == "lifespan" else send)
    return application


def _listening(host: str, port: int) -> socket.socket:
    """A socket that is bound before the model is loaded, so that a port that is taken is told at once."""
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
