"""Checks that the accuracies of an evaluation agree with its recorded outcomes per image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

_TOLERANCE = 1e-9


def problems(record: dict[str, Any]) -> Iterator[str]:
    """The contradictions between a suite's record (`evaluation` of evaluation/<id>.json and of attack_evaluation.json)
    and its `outcomes`, in words. `outcomes` has a row of 0 and 1 per attack, with one digit per image."""
    from parapet.intervals import wilson  # imported here because it imports torch

    rows, n = {name: [mark == "1" for mark in row] for name, row in record["outcomes"].items()}, record["n"]
    if odd := [name for name, row in rows.items() if len(row) != n]:
        yield f"the outcomes of {', '.join(odd)} are not of {n} images"
        return
    if "clean" not in rows or (absent := record["attacks"].keys() - rows.keys()):
        yield f"there are no outcomes of {'clean' if 'clean' not in rows else ', '.join(sorted(absent))}"
        return

    def differ(name: str, told: float, interval: list[float], row: list[bool]) -> Iterator[str]:
        count = sum(row)
        if not math.isclose(told, count / n, abs_tol=_TOLERANCE):
            yield f"{name} is {told:.4f}, and the outcomes give {count / n:.4f}"
        elif any(not math.isclose(end, right, abs_tol=_TOLERANCE) for end, right in zip(interval, wilson(count, n))):
            yield f"the interval of {name} is not that of {count:,} of {n:,} images"

    yield from differ("clean accuracy", record["clean_accuracy"], record["clean_interval"], rows["clean"])
    yield from differ("robust accuracy", record["robust_accuracy"], record["robust_interval"],
                      [all(marks) for marks in zip(*rows.values())])
    for name, attack in record["attacks"].items():
        told = attack["left"] if attack["alone"] is None else attack["alone"]
        yield from differ(f"accuracy under {name}", told, attack["interval"], rows[name])


def audit_problems(record: dict[str, Any], audit: dict[str, Any]) -> Iterator[str]:
    """The contradictions within an `audit` report, and between it and the suite's `record` of the same evaluation."""
    order = ("pass", "warn", "fail")
    worst = max((check["verdict"] for check in audit["checks"]), key=order.index, default="pass")
    if audit["verdict"] != worst:
        yield f"the audit's verdict is {audit['verdict']}, and its checks give {worst}"
    row, rows = record["outcomes"].get("audit"), audit.get("rows", ())  # older reports do not name the images
    if row is None:
        yield "there are no outcomes of the audit"
    elif rows and len(rows) != len(audit["survived"]):
        yield f"the audit names {len(rows):,} images and has outcomes of {len(audit['survived']):,}"
    elif any(row[place] == "1" and mark != "1" for place, mark in zip(rows, audit["survived"])):
        yield "the audit broke images that its outcomes call right"
    if audit.get("settled", {}).get("stages") and "adaptive" not in record["outcomes"]:
        yield "there are no outcomes of the adaptive stage"
