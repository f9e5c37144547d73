"""Comparing fronts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from parapet.store.records import Record


def identity(candidates: Iterable[Record | Mapping[str, Any]]) -> set[tuple[str, float, float, int]]:
    """A front of records or of members of front.json as a set of (genome, clean, robust, FLOPs) by validation."""
    lines = [one.to_json() if isinstance(one, Record) else one for one in candidates]
    return {(str(sorted(line["genome"].items())), line["validation"]["clean_accuracy"],
             line["validation"]["robust_accuracy"], line["flops"]) for line in lines}
