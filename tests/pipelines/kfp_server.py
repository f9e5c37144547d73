"""The Kubeflow Pipelines API (v2beta1) with state, over HTTP: what `submit` and `schedule` talk to in tests.

Paths are those of the generated client; every request body is checked field by field against the client's own OpenAPI
models, and every answer is one of those models. Failures are planned with `fail`.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import yaml

_PREFIX = "/apis/v2beta1"


class KfpServer:
    """The server's state, and what it is to do wrong."""

    def __init__(self) -> None:
        self.pipelines: dict[str, api.V2beta1Pipeline] = {}
        self.versions: dict[str, api.V2beta1PipelineVersion] = {}
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring: dict[str, api.V2beta1RecurringRun] = {}
        self.requests: list[str] = []
        self.token: str | None = None
        self.page = 2  # so that every listing has several
        self._failures: list[tuple[str, int, int]] = []
        self._ends: list[list[dict[str, Any]]] = []
        self.hang = threading.Event()
        self._hanging: str | None = None

    def fail(self, pattern: str, status: int, times: int = 1) -> None:
        """Answer the next so many requests ("METHOD /path") that match with an error."""
        self._failures.append((pattern, status, times))

    def hang_on(self, pattern: str) -> None:
        """Do not answer such requests until `hang` is set."""
        self._hanging = pattern

    def plan_run(self, *looks: dict[str, Any]) -> None:
        """What the next run is, at each look at it: {"state": ..., "tasks": {name: state}, "error": text}."""
        self._ends.append(list(looks))

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, token: str | None) -> tuple[int, Any]:
        """Status and JSON of one request."""
        asked = f"{method} {path}"
        self.requests.append(asked)
        if self._hanging and re.search(self._hanging, asked):
            self.hang.wait(30)
        if self.token is not None and token != f"Bearer {self.token}":
            return 401, {"error": "Unauthorized", "message": "the token is not valid"}
        for place, (pattern, status, times) in enumerate(self._failures):
            if times and re.search(pattern, asked):
                self._failures[place] = pattern, status, times - 1
                return status, {"error": "planned", "message": f"planned failure {status}"}
        for verb, pattern, function in _ROUTES:
            found = re.fullmatch(_PREFIX + pattern, path)
            if verb == method and found:
                return getattr(self, function)(query, body, *found.groups())
        return 404, {"message": f"no such path: {asked}"}

    # Pipelines.
    def list_pipelines(self, query: dict, body: Any) -> tuple[int, Any]:
        found = _named(list(self.pipelines.values()), query)
        return 200, self._page(api.V2beta1ListPipelinesResponse, "pipelines", found, query)

    def upload(self, query: dict, body: bytes) -> tuple[int, Any]:
        if any(each.display_name == query["name"] for each in self.pipelines.values()):
            return 409, {"message": f"pipeline {query['name']} already exists"}
        made = api.V2beta1Pipeline(pipeline_id=str(uuid.uuid4()), display_name=query["name"], name=query["name"],
                                   description=query.get("description"), namespace=query.get("namespace"))
        self.pipelines[made.pipeline_id] = made
        self._new_version(made.pipeline_id, query["name"], query.get("description"), body)
        return 200, made

    def upload_version(self, query: dict, body: bytes) -> tuple[int, Any]:
        if query["pipelineid"] not in self.pipelines:
            return 404, {"message": "no such pipeline"}
        if any(each.display_name == query["name"] and each.pipeline_id == query["pipelineid"]
               for each in self.versions.values()):
            return 409, {"message": f"version {query['name']} already exists"}
        return 200, self._new_version(query["pipelineid"], query["name"], query.get("description"), body)

    def list_versions(self, query: dict, body: Any, pipeline: str) -> tuple[int, Any]:
        found = [each for each in self.versions.values() if each.pipeline_id == pipeline]
        return 200, self._page(api.V2beta1ListPipelineVersionsResponse, "pipeline_versions", found, query)

    # Experiments and runs.
    def list_experiments(self, query: dict, body: Any) -> tuple[int, Any]:
        found = _named(list(self.experiments.values()), query)
        return 200, self._page(api.V2beta1ListExperimentsResponse, "experiments", found, query)

    def create_experiment(self, query: dict, body: dict) -> tuple[int, Any]:
        made = _model(api.V2beta1Experiment, body)
        made.experiment_id = str(uuid.uuid4())
        self.experiments[made.experiment_id] = made
        return 200, made

    def create_run(self, query: dict, body: dict) -> tuple[int, Any]:
        made = _model(api.V2beta1Run, body)
        self._check(made)
        made.run_id, made.state = str(uuid.uuid4()), "PENDING"
        self.runs[made.run_id] = made
        return 200, made

    def get_run(self, query: dict, body: Any, run: str) -> tuple[int, Any]:
        found, looks = self.runs[run], self._ends[0]
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        found.state = look["state"]
        found.error = api.GoogleRpcStatus(code=13, message=look["error"]) if "error" in look else None
        found.run_details = api.V2beta1RunDetails(task_details=[
            api.V2beta1PipelineTaskDetail(
                run_id=run, task_id=f"{place}", display_name=name, state=state.partition(":")[0],
                start_time=f"2026-01-01T00:00:{place:02d}Z", end_time=f"2026-01-01T00:01:{place:02d}Z",
                error=api.GoogleRpcStatus(code=13, message=state.partition(":")[2]) if ":" in state else None)
            for place, (name, state) in enumerate(look.get("tasks", {}).items())])
        return 200, found

    # Recurring runs.
    def list_recurring(self, query: dict, body: Any) -> tuple[int, Any]:
        return 200, self._page(api.V2beta1ListRecurringRunsResponse, "recurring_runs", list(self.recurring.values()),
                               query)

    def create_recurring(self, query: dict, body: dict) -> tuple[int, Any]:
        made = _model(api.V2beta1RecurringRun, body)
        self._check(made)
        assert len(made.trigger["cron_schedule"]["cron"].split()) == 6
        made.recurring_run_id = str(uuid.uuid4())
        made.status = "ENABLED" if made.mode == "ENABLE" else "DISABLED"
        self.recurring[made.recurring_run_id] = made
        return 200, made

    def switch(self, query: dict, body: Any, job: str, what: str) -> tuple[int, Any]:
        self.recurring[job].status = "ENABLED" if what == "enable" else "DISABLED"
        self.recurring[job].mode = what.upper()
        return 200, {}

    def delete_recurring(self, query: dict, body: Any, job: str) -> tuple[int, Any]:
        if self.recurring.pop(job, None) is None:
            return 404, {"message": "no such recurring run"}
        return 200, {}

    def healthz(self, query: dict, body: Any) -> tuple[int, Any]:
        return 200, api.V2beta1GetHealthzResponse(multi_user=False)

    def _check(self, made: Any) -> None:
        reference = made.pipeline_version_reference
        assert made.experiment_id in self.experiments
        assert self.versions[reference["pipeline_version_id"]].pipeline_id == reference["pipeline_id"]

    def _new_version(self, pipeline: str, name: str, description: str | None,
                     body: bytes) -> api.V2beta1PipelineVersion:
        spec = next(iter(yaml.load_all(body, Loader=yaml.CSafeLoader)))
        assert spec["schemaVersion"] == "2.1.0"
        made = api.V2beta1PipelineVersion(pipeline_id=pipeline, pipeline_version_id=str(uuid.uuid4()),
                                          display_name=name, name=name, description=description)
        self.versions[made.pipeline_version_id] = made
        return made

    def _page(self, kind: type, name: str, found: list, query: dict) -> Any:
        start = int(query.get("page_token") or 0)
        following = str(start + self.page) if start + self.page < len(found) else None
        return kind(**{name: found[start:start + self.page]}, next_page_token=following)


_ROUTES = (
    ("GET", "/healthz", "healthz"), ("GET", "/pipelines", "list_pipelines"),
    ("POST", "/pipelines/upload", "upload"), ("POST", "/pipelines/upload_version", "upload_version"),
    ("GET", "/pipelines/([^/]+)/versions", "list_versions"),
    ("GET", "/experiments", "list_experiments"), ("POST", "/experiments", "create_experiment"),
    ("POST", "/runs", "create_run"), ("GET", "/runs/([^/:]+)", "get_run"),
    ("GET", "/recurringruns", "list_recurring"), ("POST", "/recurringruns", "create_recurring"),
    ("POST", "/recurringruns/([^/:]+):(enable|disable)", "switch"),
    ("DELETE", "/recurringruns/([^/:]+)", "delete_recurring"),
)


@contextmanager
def serving() -> Iterator[tuple[KfpServer, str]]:
    """A server on loopback, and its address."""
    state = KfpServer()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type", "")
            if kind.startswith("multipart/"):
                message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
                body: Any = message.get_payload()[0].get_payload(decode=True)
            else:
                body = json.loads(raw) if raw else None
            status, answer = state.answer(self.command, parts.path, query, body, self.headers.get("authorization"))
            plain = json.dumps(api.ApiClient().sanitize_for_serialization(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(plain)))
            self.end_headers()
            self.wfile.write(plain)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        state.hang.set()
        server.shutdown()
        server.server_close()


def _named(found: list, query: dict) -> list:
    """Those that the filter asks for, which the client writes for names alone."""
    if "filter" not in query:
        return found
    wanted, = json.loads(query["filter"])["predicates"]
    assert wanted["operation"] in (1, "EQUALS"), wanted
    value = wanted.get("stringValue", wanted.get("string_value"))
    return [each for each in found if value in (each.display_name, getattr(each, "name", None))]


def _model(kind: type, body: dict) -> Any:
    """`body` as the client's own model; a field that it does not know fails."""
    names = {outer: inner for inner, outer in kind.attribute_map.items()}
    unknown = set(body) - set(names)
    assert not unknown, f"{kind.__name__} has no {unknown}"
    return kind(**{names[outer]: value for outer, value in body.items()})
