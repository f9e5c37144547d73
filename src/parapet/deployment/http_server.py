"""Serves a graph over HTTP: an ASGI application around one function from images to outputs.

It reads JSON only, up to a maximum size, and answers a wrong request with one sentence.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import parapet

LARGEST_REQUEST = 32 << 20
# A larger request is read and dropped up to this multiple of LARGEST_REQUEST.
_READ_AT_MOST = 4
# Seconds that a client may take to send a request.
_TIMEOUT = 60.0
# Number of requests that are parsed and answered at the same time; others wait.
_CONCURRENT = 2
_BATCH = 256
_FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")

Answer = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def application(answer: Answer, name: str, shape: Sequence[int], ready: Callable[[], None]) -> Starlette:
    """GET /ping, /health, /version and POST /invocations.

    `answer` maps float32 images (N, *`shape`) in [0, 1] to outputs by name; `name` is the name of its input. `ready` is
    called when the server accepts requests. A request is JSON with one of `inputs` (images, or {`name`: images}),
    `instances` (a list of images), `dataframe_split` or `dataframe_records` (one image per row, its pixels in order);
    the answer is {"predictions": {output: values}}, or {"error_code", "message"} with a status of 4xx or 5xx.
    """
    slots = asyncio.Semaphore(_CONCURRENT)

    async def invocations(request: Request) -> Response:
        _check_headers(request)
        body = await _body(request)
        async with slots:
            return Response(await run_in_threadpool(_answered, body, answer, name, tuple(shape)),
                            media_type="application/json")

    async def alive(request: Request) -> Response:
        return Response("\n", media_type="text/plain")

    async def version(request: Request) -> Response:
        return Response(parapet.__version__, media_type="text/plain")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        ready()
        yield

    # Each handler is called only with errors of its own class.
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {HTTPException: _refused, Exception: _failed}
    return Starlette(
        routes=[Route("/invocations", invocations, methods=["POST"]), Route("/version", version),
                *(Route(path, alive) for path in ("/ping", "/health"))],
        exception_handlers=handlers, lifespan=lifespan)


def _check_headers(request: Request) -> None:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "the request is not plain JSON; send Content-Type: application/json, not compressed.")
    if _content_length(request) > _READ_AT_MOST * LARGEST_REQUEST:
        raise _too_large()


def _content_length(request: Request) -> int:
    """Content-Length in bytes; 0 where the header is missing or not a number."""
    length = request.headers.get("content-length", "")
    return int(length[:20]) if length.isdigit() else 0


async def _body(request: Request) -> bytes:
    """The body. Much of a too large one is read and dropped: a client that is still sending would miss the answer."""
    body, dropped = bytearray(), 0
    try:
        async with asyncio.timeout(_TIMEOUT):
            async for part in request.stream():
                if dropped or max(len(body) + len(part), _content_length(request)) > LARGEST_REQUEST:
                    dropped += len(body) + len(part)
                    body.clear()
                    if dropped > _READ_AT_MOST * LARGEST_REQUEST:
                        break
                else:
                    body += part
        if dropped:
            raise _too_large()
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {_TIMEOUT:.0f} seconds; send it again.") from None
    except ClientDisconnect:
        raise HTTPException(400, "the request ended before it was complete; send it again.") from None
    return bytes(body)


def _too_large() -> HTTPException:
    return HTTPException(413, f"the request is larger than {LARGEST_REQUEST >> 20} MiB; send fewer images at once.",
                         {"Connection": "close"})


def _answered(body: bytes, answer: Answer, name: str, shape: tuple[int, ...]) -> bytes:
    images = _images(_parsed(body), name, shape)
    try:
        parts = [answer(images[start:start + _BATCH]) for start in range(0, len(images), _BATCH)]
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise HTTPException(500, f"the model could not answer ({type(error).__name__}).") from None
    outputs = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise HTTPException(500, "the model gave outputs that are not finite numbers.")
    return json.dumps({"predictions": {key: values.tolist() for key, values in outputs.items()}},
                      separators=(",", ":")).encode()


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the request is not JSON ({str(error)[:80]}); send {{\"inputs\": images}}.") from None
    if not isinstance(found, dict) or len(given := set(_FORMS) & set(found)) != 1 or \
            set(found) - given - {"params"} or found.get("params"):
        raise HTTPException(400, "the request is not a JSON object with exactly one of inputs, instances, "
                                 "dataframe_split and dataframe_records and nothing else; send {\"inputs\": images}.")
    return found


def _images(request: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 images (N, *shape) in [0, 1]."""
    wanted = f"(N, {', '.join(map(str, shape))})"
    try:
        values = _values(request, name)
        # Without a dtype, so that strings are not converted to numbers.
        images = np.array(values)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        images = np.array(None)
    if images.dtype.kind not in "fiu":
        raise HTTPException(400, f"the images are not numbers in lists of equal lengths; send them in shape {wanted}.")
    if "dataframe_split" in request or "dataframe_records" in request:
        images = images.reshape(-1, *shape) if images.size and images.size == len(images) * math.prod(shape) else images
    if images.ndim != 1 + len(shape) or images.shape[1:] != shape or not len(images):
        raise HTTPException(400, f"the images have shape {images.shape}; send them in shape {wanted}, at least one.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):  # this form refuses NaN, too
        raise HTTPException(400, f"the pixels lie in {low:g} to {high:g}; send them in 0 to 1.")
    return images.astype(np.float32)


def _values(request: dict[str, Any], name: str) -> Any:
    if "inputs" in request:
        return _named(request["inputs"], name)
    if "instances" in request:
        return [_named(one, name) for one in request["instances"]]
    rows = request.get("dataframe_records")
    rows = request["dataframe_split"]["data"] if rows is None else [list(row.values()) for row in rows]
    return [row[0] if len(row) == 1 else row for row in rows]


def _named(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        if set(value) != {name}:
            raise HTTPException(400, f"the inputs are named {', '.join(sorted(map(repr, value)))[:80]}; the model has "
                                     f"one input, {name!r}.")
        return value[name]
    return value


async def _refused(request: Request, error: HTTPException) -> Response:
    known = {404: "there is nothing at this address; POST to /invocations, or GET /ping.",
             405: "this address takes another method; POST to /invocations, or GET /ping."}
    code = "BAD_REQUEST" if error.status_code < 500 else "INTERNAL_ERROR"
    return JSONResponse({"error_code": code, "message": known.get(error.status_code, error.detail)},
                        error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error_code": "INTERNAL_ERROR", "message": "the model could not answer."}, 500)
