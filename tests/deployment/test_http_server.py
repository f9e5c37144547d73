"""A graph that answers over HTTP: what it reads, and that all else is a sentence as JSON, never more."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import requests
import uvicorn

import parapet
from parapet.deployment import http_server
from parapet.deployment.http_protocol import JSONProtocol
from parapet.deployment.http_server import application

SHAPE = (1, 2, 2)
IMAGES = np.linspace(0, 1, 12).reshape(3, *SHAPE)


def means(images: np.ndarray) -> dict[str, np.ndarray]:
    """As outputs: the mean over the pixels, and its negative."""
    assert images.dtype == np.float32 and images.shape[1:] == SHAPE
    mean = images.mean(axis=(1, 2, 3))
    return {"logits": np.stack([mean, -mean], axis=1)}


EXPECTED = means(IMAGES.astype(np.float32))["logits"].tolist()


class Client:
    """Requests to one address."""

    def __init__(self, address: str) -> None:
        self.address, self.session = address, requests.Session()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.address + path, timeout=30)

    def post(self, path: str, **options: Any) -> requests.Response:
        options = {"headers": {"Content-Type": "application/json"}, **options}
        return self.session.post(self.address + path, timeout=30, **options)


@contextmanager
def answering(answer: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Iterator[Client]:
    """A real server around `answer`, in a thread."""
    began = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application(answer, "images", SHAPE, began.set), log_level="error",
                                               http=JSONProtocol))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert began.wait(30)
        yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with answering(means) as one:
        yield one


@pytest.mark.parametrize("request_", [
    {"inputs": IMAGES.tolist()}, {"inputs": {"images": IMAGES.tolist()}}, {"instances": IMAGES.tolist()},
    {"instances": [{"images": image} for image in IMAGES.tolist()]}, {"inputs": IMAGES.tolist(), "params": {}},
    {"dataframe_split": {"columns": list("abcd"), "data": IMAGES.reshape(3, -1).tolist()}},
    {"dataframe_split": {"columns": ["images"], "data": [[image] for image in IMAGES.tolist()]}},
    {"dataframe_records": [dict(zip("abcd", row)) for row in IMAGES.reshape(3, -1).tolist()]},
    {"dataframe_records": [{"images": image} for image in IMAGES.tolist()]},
])
def test_each_form_of_a_request_is_answered(client: Client, request_: dict[str, Any]) -> None:
    answer = client.post("/invocations", json=request_)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"predictions": {"logits": pytest.approx(np.array(EXPECTED))}}


def test_it_says_that_it_is_there(client: Client) -> None:
    assert [client.get(path).status_code for path in ("/ping", "/health")] == [200, 200]
    assert client.get("/version").text == parapet.__version__


def test_many_images_are_answered_in_batches(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_BATCH", 2)
    assert client.post("/invocations", json={"inputs": IMAGES.tolist()}).json()["predictions"]["logits"] == \
        pytest.approx(np.array(EXPECTED))


WRONG = [
    (b"", 400, "the request is not JSON ("), (b"\xff", 400, "the request is not JSON ("), (b"{", 400, "is not JSON"),
    (b"[" * 100_000, 400, "the request is not JSON ("),
    (b'{"inputs": ' + b"9" * 5000 + b"}", 400, "the request is not"),
    (b"3", 400, "the request is not a JSON object with exactly one of inputs, instances, dataframe_split and"),
    (b"{}", 400, "is not a JSON object with exactly one of"),
    (b'{"inputs": [], "instances": []}', 400, "is not a JSON object with"),
    (b'{"inputs": [], "more": 1}', 400, "and nothing else"),
    (b'{"inputs": [], "params": {"a": 1}}', 400, "nothing else"),
    (b'{"inputs": []}', 400, "the images have shape (0,); send them in shape (N, 1, 2, 2), at least one."),
    (b'{"inputs": [[1, 2], [3]]}', 400, "the images are not numbers in lists of equal lengths; send them in shape"),
    (b'{"inputs": [["0.5"]]}', 400, "are not numbers"), (b'{"inputs": null}', 400, "are not numbers"),
    (b'{"inputs": [[[[true, true], [true, true]]]]}', 400, "are not numbers"),
    (b'{"inputs": [[[[0, null], [0, 0]]]]}', 400, "are not numbers"), (b'{"inputs": "abc"}', 400, "are not numbers"),
    (b'{"inputs": [[[[0, ' + b"9" * 400 + b'], [0, 0]]]]}', 400, "are not numbers"),
    (b'{"inputs": {"pictures": []}}', 400, "the inputs are named 'pictures'; the model has one input, 'images'."),
    (b'{"inputs": [[[0, 0], [0, 0]]]}', 400, "the images have shape (1, 2, 2); send them in shape (N, 1, 2, 2)"),
    (b'{"inputs": [[[[0, 255], [0, 0]]]]}', 400, "the pixels lie in 0 to 255; send them in 0 to 1."),
    (b'{"inputs": [[[[0, NaN], [0, 0]]]]}', 400, "the pixels lie in nan to nan; send them in 0 to 1."),
    (b'{"inputs": [[[[0, Infinity], [0, -1]]]]}', 400, "the pixels lie in -1 to inf; send them in 0 to 1."),
    (b'{"dataframe_split": {"data": [[0, 0, 0]]}}', 400, "the images have shape (1, 3)"),
    (b'{"dataframe_split": 3}', 400, "are not numbers"), (b'{"dataframe_records": [3]}', 400, "are not numbers"),
    (b'{"instances": 3}', 400, "are not numbers"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), WRONG)
def test_what_cannot_be_answered_is_a_sentence_as_json(client: Client, body: bytes, status: int,
                                                       sentence: str) -> None:
    answer = client.post("/invocations", data=body)
    assert (answer.status_code, answer.json()["error_code"]) == (status, "BAD_REQUEST")
    assert sentence in answer.json()["message"] and answer.json()["message"].endswith(".")
    assert len(answer.text) < 400 and "Traceback" not in answer.text


def test_other_addresses_methods_and_types_are_told(client: Client) -> None:
    for answer, status, sentence in (
            (client.get("/"), 404, "there is nothing at this address; POST to /invocations, or GET /ping."),
            (client.get("/invocations"), 405, "this address takes another method; POST to /invocations"),
            (client.post("/invocations", data=b"1,2", headers={"Content-Type": "text/csv"}), 415, "is not plain JSON"),
            (client.post("/invocations", data=b"", headers={"Content-Encoding": "gzip"}), 415, "not compressed.")):
        assert answer.status_code == status and sentence in answer.json()["message"]


def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(client: Client,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "LARGEST_REQUEST", 1 << 20)
    large = json.dumps({"inputs": [0] * 600_000}).encode()

    def parts() -> Iterator[bytes]:
        yield from (large[start:start + 65536] for start in range(0, len(large), 65536))
    for content in (large, parts()):
        answer = client.post("/invocations", data=content)
        assert answer.status_code == 413
        assert answer.json()["message"] == "the request is larger than 1 MiB; send fewer images at once."


def test_a_model_that_fails_is_told_without_its_words() -> None:
    def broken(images: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError("at /secret/place")

    def not_finite(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": np.full((len(images), 2), np.nan)}
    for answer, sentence in ((broken, "the model could not answer (RuntimeError)."),
                             (not_finite, "the model gave outputs that are not finite numbers.")):
        with answering(answer) as client:
            told = client.post("/invocations", json={"inputs": IMAGES.tolist()})
        assert (told.status_code, told.json()) == (500, {"error_code": "INTERNAL_ERROR", "message": sentence})


@pytest.mark.parametrize("request_", [
    b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", b"nonsense\r\n\r\n",
    b"\x16\x03\x01\x02\r\n\r\n",
    b"GET /ping HTTP/1.1\r\n\r\n", b"POST /invocations HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
    b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"])
def test_what_is_no_http_is_told_as_json(client: Client, request_: bytes) -> None:
    host, port = client.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request_)
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"content-type: application/json" in head
    assert json.loads(body)["error_code"] == "BAD_REQUEST" and json.loads(body)["message"].endswith(".")
