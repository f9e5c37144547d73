"""What MLflow's client and the operating system say, in plain words."""

from __future__ import annotations

import pytest

from parapet.tracking.connection import sentence, unreachable

_POOL = "HTTPConnectionPool(host='127.0.0.1', port=42093): Max retries exceeded with url: /api/2.0/x?name=a"


@pytest.mark.parametrize(("why", "said"), [
    ("ResponseError('too many 503 error responses')", "it answers each time with error 503"),
    ("NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish a new connection: "
     "[Errno 111] Connection refused')", "it cannot be reached (connection refused)"),
    ("ConnectTimeoutError(<HTTPConnection(host='x')>, 'Connection to x timed out. (connect timeout=3)')",
     "it does not answer in time")])
def test_a_client_that_gave_up_says_why_and_nothing_else(why: str, said: str) -> None:
    whole = f"API request to http://127.0.0.1:42093/api/2.0/x failed with exception {_POOL} (Caused by {why})"
    assert sentence(RuntimeError(whole)) == said
    assert sentence(RuntimeError(f"{_POOL} (Caused by {why})")) == said


@pytest.mark.parametrize("port", ["x", "99999", "0", "-1"])
def test_a_port_that_is_none_is_told_as_that(port: str) -> None:
    said = unreachable(f"http://127.0.0.1:{port}")
    assert said is not None and f"127.0.0.1:{port}, whose port is no number from 1 to 65535; in a" in said
