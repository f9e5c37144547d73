"""The front as tables for people and programs: CSV, and the JSON that MLflow shows as a table.

Members and INT8 variants have a table each: a variant's robust accuracy is an upper bound, not comparable with a
member's.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

MEMBERS = ("id", "description", "clean_accuracy", "robust_accuracy", "robust_low", "robust_high", "n", "flops",
           "params", "latency_ms", "audit", "mlflow_run_id")
VARIANTS = ("id", "derived_from", "description", "clean_accuracy", "robust_upper_bound", "upper_bound_low",
            "upper_bound_high", "n", "flops", "params", "latency_ms")
Table = tuple[tuple[str, ...], list[list[Any]]]


def members(front: dict[str, Any]) -> Table:
    """(`MEMBERS`, a row for each candidate of front.json, most robust on validation first); accuracies are on test."""
    ordered = sorted(front["candidates"], key=lambda entry: -entry["validation"]["robust_accuracy"])
    return MEMBERS, [[entry["id"], entry["description"], *_accuracies(entry), *_costs(entry), entry["audit"]["verdict"],
                      entry["mlflow_run_id"]] for entry in ordered]


def variants(front: dict[str, Any]) -> Table:
    """(`VARIANTS`, a row for each quantised variant in the order of front.json); accuracies are on test."""
    return VARIANTS, [[entry["id"], entry["derived_from"], entry["description"], *_accuracies(entry), *_costs(entry)]
                      for entry in front["variants"]]


def as_csv(table: Table) -> str:
    """The table as CSV with a header line."""
    columns, rows = table
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def as_json(table: Table) -> str:
    """The table in the form that MLflow's artifact page reads: pandas' orientation "split"."""
    columns, rows = table
    return json.dumps({"columns": list(columns), "data": rows}, allow_nan=False)


def _accuracies(entry: dict[str, Any]) -> list[Any]:
    test = entry["test"]
    return [test["clean_accuracy"], test["robust_accuracy"], *test["robust_interval"], test["n"]]


def _costs(entry: dict[str, Any]) -> list[Any]:
    return [entry["flops"], entry["params"], (entry["latency_ms"] or {}).get("p50")]
