"""What the search minimises, the non-dominated front of an archive, and its hypervolume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np


def objectives(record: dict[str, Any], names: Sequence[str]) -> list[float] | None:
    """The record's objectives, all minimised, in the order of `names`; None for an infeasible candidate.

    FLOPs and latency enter as logarithms: dominance is the same, and crowding compares ratios.
    """
    if record["status"] != "feasible":
        return None
    validation = record["validation"]
    values = {"clean_error": 1 - validation["clean_accuracy"], "robust_error": 1 - validation["robust_accuracy"],
              "flops": math.log10(max(1, record["flops"])),
              "latency_ms": math.log10(max(1e-6, record["latency_ms"]["p50"]))}
    return [values[name] for name in names]


def front(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The feasible records that no other dominates, cheapest first; of equal ones the first."""
    feasible = [(record, values) for record in records if (values := objectives(record, names)) is not None]
    if not feasible:
        return []
    kept = moocore.is_nondominated(np.array([values for _, values in feasible]), keep_weakly=False)
    members = [record for (record, _), keep in zip(feasible, kept) if keep]
    return sorted(members, key=lambda record: (record["flops"], record["id"]))


def hypervolume(records: Sequence[dict[str, Any]], ideal: Sequence[float], reference: Sequence[float]) -> float:
    """Share of the box from `ideal` to `reference` that the records dominate, in [0, 1].

    The box is over (clean error, robust error, log10 FLOPs), whatever the search minimises, so that curves compare.
    """
    low, high = np.array(ideal, float), np.array(reference, float)
    points = [objectives(record, ("clean_error", "robust_error", "flops")) for record in records]
    rows = np.array([row for row in points if row is not None], float).reshape(-1, 3)
    scaled = np.clip((rows - low) / (high - low), 0, None)
    inside = scaled[(scaled < 1).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=[1.0, 1.0, 1.0])) if len(inside) else 0.0


def hypervolume_curve(records: Sequence[dict[str, Any]], ideal: Sequence[float],
                      reference: Sequence[float]) -> list[dict[str, Any]]:
    """One row a generation: {generation, candidates, training_seconds, hypervolume}, of all candidates so far."""
    rows = []
    for generation in sorted({record["generation"] for record in records}):
        so_far = [record for record in records if record["generation"] <= generation]
        rows.append({"generation": generation, "candidates": len(so_far),
                     "training_seconds": sum(record["training_seconds"] or 0.0 for record in so_far),
                     "hypervolume": hypervolume(so_far, ideal, reference)})
    return rows


def identity(candidates: Sequence[dict[str, Any]]) -> set[tuple[str, float, float, int]]:
    """The front as a set of (genome, clean, robust, FLOPs) by validation: equal sets are the same front."""
    return {(str(sorted(candidate["genome"].items())), candidate["validation"]["clean_accuracy"],
             candidate["validation"]["robust_accuracy"], candidate["flops"]) for candidate in candidates}
