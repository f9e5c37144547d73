"""Verdicts: when a gap between two attacks is a warning and when it is a failure.

A verdict is about the robust accuracy that is reported. "fail": that number cannot be trusted, or a stronger attack
lowered it much; "warn": a person has to look at it. A weakness that other attacks of the same evaluation have already
exploited passes and is mentioned; how a network was trained is only a note.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from parapet.intervals import sign_test

Result = dict[str, Any]
_ORDER = ("pass", "warn", "fail")
# A gap fails above 5 points if a paired test finds it significant. Up to 2 points it passes: an audit of a hundred
# images cannot tell it from the luck of one more random start, and the reported number already includes those images.
FAIL_GAP, WARN_GAP, SIGNIFICANCE = 0.05, 0.02, 0.01


def result(name: str, verdict: str, numbers: dict[str, Any], advice: str) -> Result:
    """The outcome of one check, as written to evaluation/<id>.json; JSON has no NaN or infinity: they become None."""
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value
              for key, value in numbers.items()}
    return {"id": name, "verdict": verdict, "numbers": finite, "advice": advice}


def judge_gap(name: str, before: Tensor, after: Tensor, numbers: dict[str, Any], advice: str, *,
              fail: float = FAIL_GAP, warn: float = WARN_GAP) -> Result:
    """Judge how many images a stronger attack breaks beyond a weaker one.

    before, after: bool (n,), which images survive the weaker and the stronger attack. Fails above a gap of `fail`
    (a fraction of the images) whose paired sign test is below 1 %, warns above a gap of `warn`.
    """
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    # From whole numbers, so that 2 of 100 are not above a limit of 0.02.
    difference, p_value = (lost - gained) / max(len(before), 1), sign_test(lost, gained)
    numbers = {**numbers, "gap": difference, "p_value": p_value}
    if difference > fail and p_value < SIGNIFICANCE:
        return result(name, "fail", numbers, advice)
    if difference > warn:
        return result(name, "warn", numbers, advice)
    return result(name, "pass", numbers, "The attacks agree.")


def judge_gap_beyond(name: str, known: Tensor, after: Tensor, numbers: dict[str, Any], advice: str, finding: str,
                     found: bool) -> Result:
    """`judge_gap` of what an attack breaks beyond all `known` attacks (both bool (n,), True where an image survives).

    If the check passes and `found` is set, the advice says that `finding` (a clause) is already taken into account.
    """
    judged = judge_gap(name, known, known & after, numbers, advice)
    if judged["verdict"] == "pass" and found:
        judged["advice"] = f"Taken into account: {finding}, and other attacks break these images too."
    return judged


def judge_share(name: str, share: float, numbers: dict[str, Any], advice: str, passed: str, *, warn: float,
                fail: float) -> Result:
    """Warn from a `share` of `warn` on, fail from `fail` on; `passed` is the advice below."""
    if share >= warn:
        return result(name, "fail" if share >= fail else "warn", numbers, advice)
    return result(name, "pass", numbers, passed)


def worst(results: list[Result]) -> str:
    """The worst verdict, "pass" if there are no results."""
    return max((one["verdict"] for one in results), key=_ORDER.index, default="pass")


def mean(outcome: Tensor) -> float:
    """The fraction of True, 0 if empty; in double precision, so that 5 of 100 are not above a limit of 0.05."""
    return float(outcome.double().mean()) if len(outcome) else 0.0
