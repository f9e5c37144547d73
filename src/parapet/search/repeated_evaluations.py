"""Several evaluations of one training as one: means of accuracies, for the luck of a single look lasts in a front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ORDER = ("pass", "warn", "fail")


def pooled(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One attack_evaluation result from those of each look, in their order; the only one as it is.

    Accuracies are means over looks, weighted by images. Intervals (Wilson 1927) are for the number of different images:
    the same image met twice is no second image. The audit's verdict is the worst of them.
    """
    if len(results) == 1:
        return results[0]
    from parapet.intervals import wilson  # torch comes with it

    records = [result["evaluation"] for result in results]
    weights: list[int] = [record["n"] for record in records]
    images = len(set().union(*(_images(result) for result in results)))

    def mean(values: Sequence[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values)) / sum(weights)

    clean, robust = (mean([record[name] for record in records]) for name in ("clean_accuracy", "robust_accuracy"))
    evaluation = {**records[-1], "n": images, "clean_accuracy": clean, "robust_accuracy": robust,
                  "clean_interval": list(wilson(clean * images, images)),
                  "robust_interval": list(wilson(robust * images, images)),
                  "attacks": {name: {**attack, kind: mean([record["attacks"][name][kind] for record in records])}
                              for name, attack in records[-1]["attacks"].items()
                              for kind in ("alone", "left") if attack[kind] is not None}}
    worst = max(results, key=lambda result: _ORDER.index(result["audit"]["verdict"]))
    return {**results[-1], "evaluation": evaluation, "audit": worst["audit"]}


def window(look: int, count: int, available: int) -> list[int]:
    """Places of the validation images of a look: the `count` after those of the look before, around and around."""
    count = min(count, available)
    first = (look - 1) * count
    return [place % available for place in range(first, first + count)]


def _images(result: dict[str, Any]) -> set[int]:
    return set(window(result["look"], result["images"], result["available"]))
