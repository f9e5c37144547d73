"""Selections from front.json and the archive: members, the best one, ties, other candidates."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any


def members(front: dict[str, Any]) -> list[dict[str, Any]]:
    """The members of the front in front.json, cheapest first."""
    return sorted(front["candidates"], key=lambda candidate: (candidate["flops"], candidate["id"]))


def best(front: dict[str, Any]) -> dict[str, Any]:
    """The most robust member by its *validation* accuracy; its test accuracy is what gets reported.

    Nothing is selected on the test split, not even the member that the headline names. Members whose audit failed are
    skipped unless all failed.
    """
    own = front["candidates"]
    trusted = [candidate for candidate in own if candidate["audit"]["verdict"] != "fail"] or own
    return max(trusted, key=lambda candidate: (candidate["validation"]["robust_accuracy"],
                                               candidate["validation"]["clean_accuracy"], -candidate["flops"]))


def ties(front: dict[str, Any], candidate: dict[str, Any]) -> list[dict[str, Any]]:
    """The other members whose robust accuracy on test lies inside `candidate`'s interval and the other way round."""
    return [other for other in members(front) if other["id"] != candidate["id"]
            and _inside(other["test"]["robust_accuracy"], candidate["test"]["robust_interval"])
            and _inside(candidate["test"]["robust_accuracy"], other["test"]["robust_interval"])]


def attack_names(candidates: Iterable[dict[str, Any]], kind: str | None = None) -> list[str]:
    """Every attack of the candidates' test suites, in order of first appearance.

    With `kind`, only those with an accuracy of this kind: "alone", or "left" after it and all before it.
    """
    return list(dict.fromkeys(name for candidate in candidates
                              for name, shares in candidate["test"]["attacks"].items()
                              if kind is None or shares[kind] is not None))


def others(front: dict[str, Any], archive: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The archive's fully trained candidates that are not in front.json; they have validation numbers only.

    Repeats with another seed are left out, and so are cheaper rungs, whose numbers are not comparable.
    """
    known = {candidate["id"] for candidate in (*front["candidates"], front["undefended"])}
    return [record for record in archive if record["id"] not in known and record["validation"] is not None
            and record["fidelity"]["full"] and record["repeat"] == 0]


def sample(records: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` of the records, a uniform sample that is the same every time, in their order."""
    if len(records) <= limit:
        return records
    places = random.Random(0).sample(range(len(records)), limit)  # nosec B311 # not used for security
    return [records[place] for place in sorted(places)]


def infeasible(archive: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The archive's infeasible candidates; each has its reason."""
    return [record for record in archive if record["status"] == "infeasible"]


def _inside(value: float, interval: list[float]) -> bool:
    return interval[0] <= value <= interval[1]
