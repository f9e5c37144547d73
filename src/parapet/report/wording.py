"""Numbers as text, the same in the page, the cards and the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from parapet.genome import Genome


def percent(value: float) -> str:
    """0.7139 as `71.4 %`."""
    return f"{100 * value:.1f} %"


def interval(bounds: list[float]) -> str:
    """[0.665, 0.759] as `66.5–75.9 %`."""
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f} %"


def with_interval(value: float, bounds: list[float], n: int) -> str:
    """`71.4 % (95 % interval 66.5–75.9 %, n = 360)`."""
    return f"{percent(value)} (95 % interval {interval(bounds)}, n = {n:,})"


def threat(model: dict[str, Any]) -> str:
    """{"norm": "linf", "eps": 0.0313725} as `L-inf, eps = 8/255`: the literature writes radii in 255ths."""
    norm = {"linf": "L-inf", "l2": "L2"}.get(model["norm"], str(model["norm"]))
    levels = model["eps"] * 255
    # 0.2 is exactly 51/255, but only small radii are usually given in 255ths.
    if model["norm"] == "linf" and 1 <= round(levels) <= 32 and abs(levels - round(levels)) < 1e-3:
        return f"{norm}, eps = {round(levels)}/255"
    return f"{norm}, eps = {model['eps']:.4g}"


def count(value: float) -> str:
    """1234567 as `1.23 M`, three significant digits."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """3725 as `1 h 2 min`; 7.31 as `7.3 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if seconds < 600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def milliseconds(value: float) -> str:
    """0.08123 as `0.0812 ms`, three significant digits."""
    return f"{value:#.3g}".rstrip(".") + " ms"


def describe(genome: dict[str, Any]) -> str:
    """A short description of a genome, for records without one."""
    return str(Genome.from_dict(genome))


def number(value: Any) -> str:
    """A number of an audit check, whatever its type, short enough for a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(number(item) for item in value)
    return str(value)


def plain(text: Any) -> str:
    """Text that Markdown shows as it is: on one line, without markup, HTML or the end of a table cell."""
    line = " ".join(str(text).split())
    for mark in "\\`*_[]|":
        line = line.replace(mark, "\\" + mark)
    return escape(line, quote=False)


def attacks(block: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, str]]:
    """The accuracies of a block `validation` or `test` under its attacks, as (kind of accuracy, text) for each kind."""
    parts = {kind: ", ".join(f"{name} {percent(share)}" for name, shares in block.items()
                             if (share := shares[kind]) is not None) for kind in ("alone", "left")}
    return [(heading, parts[kind]) for kind, heading in (("alone", "each attack alone"), ("left", "after all so far"))
            if parts[kind]]


def reattacked(found: dict[str, Any]) -> str:
    """The result of the gate's attack (`gate` in parapet.promotion.reattack), as a sentence."""
    return (f"Attacked again on the graph that ships (rapid suite, seed {found['seed']}), {percent(found['attacked'])} "
            f"of {found['n']:,} test images are robust, in the record {percent(found['recorded'])}; its robust "
            f"accuracy is now the share that survives both, {percent(found['kept'])}."
            + (f" The deep audit of the graph: {audit}." if (audit := found.get("audit")) else ""))


def distances(attacks: dict[str, Any]) -> list[tuple[str, float]]:
    """(attack, median distance) of the minimum-norm attacks in an evaluation's `attacks`."""
    return [(name, attack["median_distance"]) for name, attack in attacks.items()
            if attack.get("median_distance") is not None]
