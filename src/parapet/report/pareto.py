"""The front as a table for people and programs: CSV, and the JSON that MLflow shows as a table."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

COLUMNS = ("id", "description", "clean_accuracy", "robust_accuracy", "robust_low", "robust_high", "n", "flops",
           "params", "latency_ms", "audit", "derived_from", "mlflow_run_id")


def rows(front: dict[str, Any]) -> list[list[Any]]:
    """A row of `COLUMNS` for each entry of front.json, most robust on validation first; accuracies are on test."""
    ordered = sorted(front["candidates"], key=lambda entry: -entry["validation"]["robust_accuracy"])
    return [[entry["id"], entry["description"], entry["test"]["clean_accuracy"], entry["test"]["robust_accuracy"],
             *entry["test"]["robust_interval"], entry["test"]["n"], entry["flops"], entry["params"],
             (entry["latency_ms"] or {}).get("p50"), entry["audit"]["verdict"], entry["derived_from"],
             entry["mlflow_run_id"]] for entry in ordered]


def as_csv(front: dict[str, Any]) -> str:
    """The table with a line of headings."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows(front)])
    return text.getvalue()


def as_json(front: dict[str, Any]) -> str:
    """The table as MLflow's page of artifacts reads one: pandas' orientation "split"."""
    return json.dumps({"columns": list(COLUMNS), "data": rows(front)}, allow_nan=False)
