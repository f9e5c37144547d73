"""Rows for `dvc plots show` and the small dict for `dvc metrics show`."""

from __future__ import annotations

import math
from typing import Any

from parapet.report.members import best, members

Rows = list[dict[str, Any]]


def plot_tables(front: dict[str, Any], evaluations: dict[str, dict[str, Any]]) -> dict[str, Rows]:
    """Tables by name, each a list of flat rows as DVC's JSON plots want them.

    `front`: {id, flops, log10_flops, clean_accuracy, robust_accuracy}; `hypervolume`: {generation, candidates,
    hypervolume}; `attacks`: {id, attack, accuracy}, under each attack alone; `attacks_left`: {id, attack, left}, after
    an attack and all before it; `eps_curve`: {id, eps, accuracy}. Accuracies are fractions of 1 on the test split. The
    undefended net has the id `undefended` and is not in the table `front`.
    """
    own = members(front)
    named = [("undefended", front["undefended"]), *((candidate["id"], candidate) for candidate in own)]
    return {
        "front": [{"id": candidate["id"], "flops": candidate["flops"],
                   "log10_flops": math.log10(max(candidate["flops"], 1)),
                   "clean_accuracy": candidate["test"]["clean_accuracy"],
                   "robust_accuracy": candidate["test"]["robust_accuracy"]} for candidate in own],
        "hypervolume": [{"generation": point["generation"], "candidates": point["candidates"],
                         "hypervolume": point["hypervolume"]} for point in front["search"]["hypervolume"]],
        "attacks": [{"id": name, "attack": attack, "accuracy": shares["alone"]} for name, candidate in named
                    for attack, shares in candidate["test"]["attacks"].items() if shares["alone"] is not None],
        "attacks_left": [{"id": name, "attack": attack, "left": shares["left"]} for name, candidate in named
                         for attack, shares in candidate["test"]["attacks"].items() if shares["left"] is not None],
        "eps_curve": [{"id": name, "eps": eps, "accuracy": accuracy} for name, candidate in named
                      for eps, accuracy in curve(evaluations.get(candidate["id"]))],
    }


def metrics(front: dict[str, Any]) -> dict[str, float | int]:
    """The numbers for comparing two runs.

    `best_*` are test accuracies of the member that is most robust on validation; `gap` is its robust accuracy minus the
    undefended net's; `flops_span` is the highest FLOPs of a member divided by the lowest.
    """
    own, top = members(front), best(front)
    undefended = front["undefended"]["test"]["robust_accuracy"]
    flops = [max(candidate["flops"], 1) for candidate in own] or [1]
    volumes = [point["hypervolume"] for point in front["search"]["hypervolume"]]
    return {
        "best_robust_accuracy": top["test"]["robust_accuracy"],
        "best_clean_accuracy": top["test"]["clean_accuracy"],
        "undefended_robust_accuracy": undefended,
        "gap": top["test"]["robust_accuracy"] - undefended,
        "front_size": len(own),
        "hypervolume": volumes[-1] if volumes else 0.0,
        "evaluated": front["search"]["evaluated"],
        "infeasible": front["search"]["infeasible"],
        "flops_span": max(flops) / min(flops),
    }


def curve(evaluation: dict[str, Any] | None) -> list[tuple[float, float]]:
    """(eps, accuracy) pairs of an evaluation record in the order of eps; empty if none was measured."""
    curves = (evaluation or {}).get("curves")
    return sorted(zip(curves["eps"], curves["accuracy"])) if curves else []
