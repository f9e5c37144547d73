"""Verdicts: when a gap between two attacks is a warning and when it is a failure.

A verdict is about the number that is shown. It fails where that number is not to be believed or where the attacks were
beaten, and warns where somebody has to act. What stronger attacks have taken into account already passes and says so;
how a network was trained is a note.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from parapet.intervals import sign_test

Result = dict[str, Any]
_ORDER = ("pass", "warn", "fail")
# A gap fails above 5 points where a paired test calls it real; up to 2 points an audit of a hundred images cannot tell
# from the luck of one more start, and the number that is shown holds them already.
FAIL_GAP, WARN_GAP, SIGNIFICANCE = 0.05, 0.02, 0.01


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
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    # of whole numbers, so that 2 of 100 are not more than a limit of 0.02
    difference, p_value = (lost - gained) / max(len(before), 1), sign_test(lost, gained)
    numbers = {**numbers, "gap": difference, "p_value": p_value}
    if difference > fail and p_value < SIGNIFICANCE:
        return result(name, "fail", numbers, advice)
    if difference > warn:
        return result(name, "warn", numbers, advice)
    return result(name, "pass", numbers, "The attacks agree.")


def beyond(name: str, known: Tensor, after: Tensor, numbers: dict[str, Any], advice: str, finding: str,
           found: bool) -> Result:
    """`gap` of what `after` breaks beyond all `known` attacks; where a check has `found` something that they break too,
    it passes and says that `finding` is taken into account."""
    judged = gap(name, known, known & after, numbers, advice)
    if judged["verdict"] == "pass" and found:
        judged["advice"] = f"Taken into account: {finding}, and other attacks break these images too."
    return judged


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
