"""Verdicts: when a gap between two attacks is a warning and when it is a failure."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from parapet.attacks.intervals import sign_test

Result = dict[str, Any]
_ORDER = ("pass", "warn", "fail")
# A gap fails above 5 points where a paired test calls it real; the smallest gap worth a word is 0.2 points.
FAIL_GAP, WARN_GAP, SIGNIFICANCE = 0.05, 0.002, 0.01
# What another loss or scale of the logits adds: honest TRADES nets with small logits (beta 4 to 6, 8x8 digits) give up
# to 11 points and a quarter more to the margin than to cross-entropy; plain nets with smoothed labels 14 to 20 points
# and a third to a half. So it fails above 15 points, or above 5 that are a third of what stood before.
LOSS_FAILS, LOSS_FAILS_SHARE = 0.15, 0.33


def result(name: str, verdict: str, numbers: dict[str, Any], advice: str) -> Result:
    """One check's outcome, as it is written to evaluation/<id>.json; JSON has no NaN, so that becomes None."""
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value
              for key, value in numbers.items()}
    return {"id": name, "verdict": verdict, "numbers": finite, "advice": advice}


def gap(name: str, before: Tensor, after: Tensor, numbers: dict[str, Any], advice: str, *, fail: float = FAIL_GAP,
        warn: float = WARN_GAP) -> Result:
    """Judge how many images `after`, a stronger attack, breaks beyond `before`; bool (n,), True where they survive.

    Fails above `fail` (a share of the images) where the paired sign test is below 1 %, warns above `warn`.
    """
    difference = mean(before) - mean(after)
    p_value = sign_test(int((before & ~after).sum()), int((~before & after).sum()))
    numbers = {**numbers, "gap": difference, "p_value": p_value}
    if difference > fail and p_value < SIGNIFICANCE:
        return result(name, "fail", numbers, advice)
    if difference > warn:
        return result(name, "warn", numbers, advice)
    return result(name, "pass", numbers, "The attacks agree.")


def loss_gap(name: str, before: Tensor, after: Tensor, numbers: dict[str, Any], advice: str, *,
             warn: float) -> Result:
    """`gap` where `after` differs by its loss or by the scale of the logits, which costs honest nets more."""
    difference = mean(before) - mean(after)
    large = difference > LOSS_FAILS_SHARE * mean(before)
    return gap(name, before, after, numbers, advice, warn=warn, fail=FAIL_GAP if large else LOSS_FAILS)


def graded(name: str, share: float, numbers: dict[str, Any], advice: str, praise: str, *, warn: float,
           fail: float) -> Result:
    """Warn from the share `warn` on, fail from `fail` on."""
    if share >= warn:
        return result(name, "fail" if share >= fail else "warn", numbers, advice)
    return result(name, "pass", numbers, praise)


def worst(results: list[Result]) -> str:
    """The worst verdict, "pass" where there is none."""
    return max((one["verdict"] for one in results), key=_ORDER.index, default="pass")


def mean(outcome: Tensor) -> float:
    """The share of True, 0 for nothing; in double precision, so that 5 of 100 are not above a limit of 0.05."""
    return float(outcome.double().mean()) if len(outcome) else 0.0
