"""Values for MLflow: plain JSON for the outbox, then flat names with numbers or short texts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Strict JSON has no such numbers, but a diverged training has: they are written as these words.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """`value` as dicts, lists, texts, numbers and None, fit for strict JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays, without importing either
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be tracked")


def number(value: Any) -> float | None:
    """The number that `plain` wrote, or None where it is not a number."""
    if isinstance(value, bool | int | float):
        return float(value)
    return _NOT_FINITE.get(value) if isinstance(value, str) else None


def flat(values: Mapping[str, Any], prefix: str = "", silent: str | None = None) -> Iterator[tuple[str, Any]]:
    """Leaves by dotted name, without None, lists as JSON; the names omit a level called `silent`."""
    for key, value in values.items():
        name = prefix if key == silent and prefix else f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from flat(value, name, silent)
        elif isinstance(value, list):
            yield name, json.dumps(value)
        elif value is not None:
            yield name, value


def numbers_and_texts(values: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, float], dict[str, str]]:
    """Measurements by dotted name, sorted into what MLflow keeps as metrics and what it can only keep as tags.

    The accuracy under attack `pgd` alone, of block `test`, is `test.pgd.alone`, and the accuracy after `square` and all
    attacks before it is `test.square.left`; intervals become `.low` and `.high`.
    """
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    for name, value in flat(_spread(values), prefix, silent="attacks"):
        converted = number(value)
        if converted is None:
            texts[name] = str(value)
        else:
            numbers[name] = converted
    return numbers, texts


def _spread(values: Mapping[str, Any]) -> dict[str, Any]:
    spread: dict[str, Any] = {}
    for key, value in values.items():
        interval = key.endswith("interval") and isinstance(value, list) and len(value) == 2
        spread[key] = dict(zip(("low", "high"), value)) if interval else \
            _spread(value) if isinstance(value, Mapping) else value
    return spread


def legal(name: str) -> str:
    """`name` as MLflow allows names of metrics and params: other characters become `_`, at most 250 of them."""
    return re.sub(r"[^\w.\- ]", "_", name).strip(" .")[:250] or "_"


def shortened(text: str, longest: int) -> str:
    """`text`, cut with an ellipsis where it is longer than MLflow keeps."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
