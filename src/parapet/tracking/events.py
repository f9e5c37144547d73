"""What each kind of event becomes in MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parapet.disk.files import digest
from parapet.tracking.runs import Point, Runs, curve_points
from parapet.tracking.values import flat, legal, number, numbers_and_texts

if TYPE_CHECKING:
    from parapet.tracking.queue import Event

# Artifacts of a search that MLflow's pages show as tables: (name, file).
_TABLES = (("pareto", "pareto/front.json"),)
_LONGEST_DIGEST = 36  # MLflow's limit for the digest of a data set


def log_event(runs: Runs, event: Event) -> str:
    """Log one event; safe to repeat. Returns the run that it went to."""
    handlers = {"search": _search, "candidate": _candidate, "front": _front, "evaluation": _evaluation,
                "finish": _finish, "system": _system}
    if event.kind not in handlers:
        raise ValueError(f"{event.kind!r} is not a kind of event that this version knows")
    return handlers[event.kind](runs, event)


def _search(runs: Runs, event: Event) -> str:
    body = event.body
    run_id = runs.parent(event.search_id, body["name"], event.created)
    runs.log(run_id, params=dict(flat(body["params"])), tags=body["tags"])
    if body["dataset"]:
        runs.client.log_inputs(run_id, datasets=[_dataset(body["dataset"])])
    return run_id


def _candidate(runs: Runs, event: Event) -> str:
    record, curves = event.body["record"], event.body["curves"]
    times = [time for row in curves if (time := number(row.get("time")))]
    end = max(times, default=event.created)
    start = min([*times, end - (number(record.get("training_seconds")) or 0.0)])
    run_id = runs.child(event.search_id, record["id"], start)

    measured = {name: record.get(name) for name in ("validation", "flops", "params", "training_seconds",
                                                    "training_flops", "latency_ms")}
    numbers, texts = numbers_and_texts(measured)
    # Of two values MLflow shows the one with the later time, so measurements get the time of their event.
    points = [Point(legal(name), value, event.created) for name, value in numbers.items()]
    points += curve_points(curves, "epoch", "epoch", end)
    audit = record.get("audit") or {}
    tags = {**texts, "generation": record.get("generation"), "status": record.get("status"),
            "reason": record.get("reason"), "audit": audit.get("verdict"),
            "audit_reasons": " ".join(audit.get("reasons", [])) or None,
            "training_key": record.get("training_key"), "evaluation_key": record.get("evaluation_key"),
            **event.body["tags"]}
    params = {**record.get("genome", {}), "seed": record.get("seed"),
              **dict(flat({"fidelity": record.get("fidelity", {})}))}
    runs.log(run_id, points, {name: value for name, value in params.items() if value is not None}, tags)
    runs.upload(run_id, _files(event), f"Candidate {record['id']}")
    # Terminated last, so that a run with the status FINISHED is complete.
    status = "FAILED" if record.get("status") == "infeasible" else "FINISHED"
    runs.client.set_terminated(run_id, status, end_time=int(end * 1000))
    return run_id


def _front(runs: Runs, event: Event) -> str:
    runs.merge_parents(event.search_id)
    parent = runs.parent(event.search_id)
    missing = set(event.body["ids"])
    for run in runs.all(event.search_id, "candidate"):
        name = run.data.tags["candidate"]
        missing.discard(name)
        wanted = "true" if name in event.body["ids"] else "false"
        if run.data.tags.get("on_front") != wanted:
            runs.client.set_tag(run.info.run_id, "on_front", wanted)
    if missing:
        runs.warnings.append(f"The front of search {event.search_id} names candidates without a run: "
                             f"{', '.join(sorted(missing))}.")
    return parent


def _evaluation(runs: Runs, event: Event) -> str:
    candidate = event.body["id"]
    known = runs.find(event.search_id, "candidate", candidate)
    run_id = known.info.run_id if known else runs.child(event.search_id, candidate, event.created)
    numbers, texts = numbers_and_texts(event.body["metrics"])
    runs.log(run_id, [Point(legal(name), value, event.created) for name, value in numbers.items()], tags=texts)
    runs.upload(run_id, _files(event), f"Candidate {candidate}")
    if known is None or known.info.status == "RUNNING":
        runs.client.set_terminated(run_id, "FINISHED", end_time=int(event.created * 1000))
    return run_id


def _finish(runs: Runs, event: Event) -> str:
    body = event.body
    run_id = runs.parent(event.search_id)
    numbers, texts = numbers_and_texts(body["metrics"])
    points = [Point(legal(name), value, event.created) for name, value in numbers.items()]
    points += curve_points(body["curves"], "generation", "generation", event.created)
    tables = [path for name, path in _TABLES if name in body["artifacts"]]
    if tables:
        texts["mlflow.loggedArtifacts"] = json.dumps([{"path": path, "type": "table"} for path in tables])
    runs.log(run_id, points, tags=texts)
    runs.upload(run_id, _files(event), f"Search {event.search_id}")
    if runs.joined is None:  # Kubeflow ends the runs that it made
        runs.client.set_terminated(run_id, body["status"], end_time=int(event.created * 1000))
    return run_id


def _system(runs: Runs, event: Event) -> str:
    run_id = runs.parent(event.search_id)
    # The time is the step, so that the steps of a search that was killed and resumed continue.
    runs.log(run_id, [Point(name, value, sample["time"], int(sample["time"]))
                      for sample in event.body["samples"] for name, value in sample.items() if name != "time"])
    return run_id


def _files(event: Event) -> dict[str, str]:
    """The artifacts of an event by name; those of older Parapets have absolute paths."""
    return {name: os.path.normpath(event.folder / path) for name, path in event.body["artifacts"].items()}


def _dataset(values: Mapping[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = str(values.get("name", "data"))
    mark = str(values.get("digest") or values.get("fingerprint") or digest(dict(values)))
    rest = {key: value for key, value in values.items() if key not in ("name", "digest", "source")}
    dataset = Dataset(name=name, digest=mark[:_LONGEST_DIGEST], source_type="local", profile=json.dumps(rest),
                      source=json.dumps({"uri": str(values.get("source", name))}))
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", "training")])
