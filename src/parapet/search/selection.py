"""One candidate chosen from a front: its knee, or the cheapest that meets constraints."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parapet.errors import InputError

_QUANTITIES: dict[str, Callable[[dict[str, Any]], float]] = {
    "clean_accuracy": lambda candidate: candidate["validation"]["clean_accuracy"],
    "robust_accuracy": lambda candidate: candidate["validation"]["robust_accuracy"],
    "flops": lambda candidate: candidate["flops"],
    "params": lambda candidate: candidate["params"],
    "latency_ms": lambda candidate: candidate["latency_ms"]["p50"],
}
_CONSTRAINT = re.compile(r"\s*(\w+)\s*(>=|<=)\s*([0-9.eE+-]+)\s*")
_COMPARE = {">=": operator.ge, "<=": operator.le}


def select(candidates: Sequence[dict[str, Any]], wish: str) -> tuple[dict[str, Any], str]:
    """(candidate, the reason in a sentence) for `wish`, read on the validation split.

    `wish` is "knee", or constraints such as "robust_accuracy >= 0.6, latency_ms <= 0.2": of the candidates that
    meet all of them the one with the fewest FLOPs. Raises InputError for a wish that cannot be read or met; then
    the nearest miss is named.
    """
    if wish.strip() == "knee":
        return _knee(candidates)
    constraints = [_parse(part) for part in wish.split(",")]
    meeting = [candidate for candidate in candidates if all(
        _COMPARE[sign](_QUANTITIES[name](candidate), bound) for name, sign, bound in constraints)]
    if not meeting:
        nearest = min(candidates, key=lambda candidate: sum(_miss(candidate, *part) for part in constraints))
        values = ", ".join(f"{name} {_QUANTITIES[name](nearest):.4g}" for name, _, _ in constraints)
        raise InputError(f"no member of the front meets {wish!r}; the nearest is {nearest['id']} with {values}. "
                         "Loosen a bound, or search longer.")
    chosen = min(meeting, key=lambda candidate: (candidate["flops"], candidate["id"]))
    return chosen, (f"{chosen['id']} needs the fewest FLOPs ({chosen['flops']:,}) of the {len(meeting)} members of the "
                    f"front that meet {wish.strip()}.")


def _knee(candidates: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The member nearest to the front's own ideal corner, each objective scaled to the front's range."""
    values = np.array([[1 - _QUANTITIES["clean_accuracy"](candidate), 1 - _QUANTITIES["robust_accuracy"](candidate),
                        math.log10(max(1, candidate["flops"]))] for candidate in candidates])
    low, high = values.min(0), values.max(0)
    distance = np.linalg.norm((values - low) / np.where(high > low, high - low, 1.0), axis=1)
    chosen = candidates[int(distance.argmin())]
    return chosen, (f"{chosen['id']} is the knee of the front: the nearest of {len(candidates)} members to the best "
                    "clean accuracy, robust accuracy and FLOPs at once.")


def _parse(part: str) -> tuple[str, str, float]:
    match = _CONSTRAINT.fullmatch(part)
    if not match or match[1] not in _QUANTITIES:
        raise InputError(f"the constraint {part.strip()!r} cannot be read; write knee, or QUANTITY >= NUMBER or "
                         f"QUANTITY <= NUMBER with one of {', '.join(_QUANTITIES)}, several separated by commas.")
    try:
        return match[1], match[2], float(match[3])
    except ValueError:
        raise InputError(f"the constraint {part.strip()!r} has no number after {match[2]}.") from None


def _miss(candidate: dict[str, Any], name: str, sign: str, bound: float) -> float:
    gap = bound - _QUANTITIES[name](candidate)
    return max(0.0, gap if sign == ">=" else -gap) / max(abs(bound), 1e-12)
