"""Who is on the front: its members, the one to name first, and ties."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any


def members(front: dict[str, Any]) -> list[dict[str, Any]]:
    """The candidates of front.json that dominance chose, cheapest first."""
    return sorted(front["candidates"], key=lambda candidate: (candidate["flops"], candidate["id"]))


def best(front: dict[str, Any]) -> dict[str, Any]:
    """The most robust member by its *validation* accuracy; its test accuracy is what gets reported.

    Nothing is chosen on the test split, not even which member the headline names. Members whose audit failed
    are passed over while there is any other.
    """
    own = front["candidates"]
    trusted = [candidate for candidate in own if candidate["audit"]["verdict"] != "fail"] or own
    return max(trusted, key=lambda candidate: (candidate["validation"]["robust_accuracy"],
                                               candidate["validation"]["clean_accuracy"], -candidate["flops"]))


def ties(front: dict[str, Any], candidate: dict[str, Any]) -> list[dict[str, Any]]:
    """Other members whose robust accuracy on test and `candidate`'s lie inside each other's interval."""
    return [other for other in members(front) if other["id"] != candidate["id"]
            and _inside(other["test"]["robust_accuracy"], candidate["test"]["robust_interval"])
            and _inside(candidate["test"]["robust_accuracy"], other["test"]["robust_interval"])]


def attack_names(candidates: Iterable[dict[str, Any]], kind: str | None = None) -> list[str]:
    """Every attack of the candidates' test suites, in the order in which they first appear; of one `kind` alone, those
    with such a number: "alone", or "left" after it and all before it."""
    return list(dict.fromkeys(name for candidate in candidates
                              for name, shares in candidate["test"]["attacks"].items()
                              if kind is None or shares[kind] is not None))


def others(front: dict[str, Any], archive: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The archive's fully trained candidates that front.json does not hold; they have validation numbers alone.

    Other seeds of the same training are no candidates of their own, and cheap rungs do not compare.
    """
    known = {candidate["id"] for candidate in (*front["candidates"], front["undefended"])}
    return [record for record in archive if record["id"] not in known and record["validation"] is not None
            and record["fidelity"]["full"] and record["repeat"] == 0]


def drawn(records: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` of the records, each as likely as any other and the same every time, in their order."""
    if len(records) <= limit:
        return records
    places = random.Random(0).sample(range(len(records)), limit)  # nosec B311 # which points are drawn is no secret
    return [records[place] for place in sorted(places)]


def infeasible(archive: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The archive's candidates that failed or fell below the bar; each has its reason."""
    return [record for record in archive if record["status"] == "infeasible"]


def _inside(value: float, interval: list[float]) -> bool:
    return interval[0] <= value <= interval[1]
