"""Combines several evaluations of one training: one lucky evaluation must not keep a candidate on the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ORDER = ("pass", "warn", "fail")


def pooled(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One attack_evaluation result from the results of all looks (evaluations), in their order; a single one unchanged.

    Accuracies are means over looks, weighted by the number of images. Wilson intervals (1927) use the number of
    different images, because an image that was evaluated twice is not a second sample. The audit is that of the look
    with the worst verdict.
    """
    if len(results) == 1:
        return results[0]
    from parapet.intervals import wilson  # imported here because it imports torch

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
    """Indices of the validation images of a look, from 1: the `count` indices after those of the previous look, modulo
    `available`."""
    count = min(count, available)
    first = (look - 1) * count
    return [place % available for place in range(first, first + count)]


def _images(result: dict[str, Any]) -> set[int]:
    return set(window(result["look"], result["images"], result["available"]))
