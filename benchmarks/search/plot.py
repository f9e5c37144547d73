"""Hypervolume against training time as a static SVG: median of the seeds and the middle half of them.

No script and no font from a network; the card brings its own ground, so it is readable on light and dark pages.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.replay import Curve
from benchmarks.search.verdict import SHARE, SPLITS

PICTURE = Path("docs/search.svg")
WIDTH, HEIGHT = 860, 520
TOP, BOTTOM, PANELS = 124, 128, ((78, 420), (488, 830))  # left and right end of each panel
INK, SOFT, GRID = "#1c1e21", "#5d636b", "#e6e8eb"
# Of Okabe and Ito (2008), which colour-blind eyes tell apart; dashes for those who see no colour at all.
STYLES = {"plain NSGA-II": ("#1c1e21", ""), "random search": ("#8a919c", "7 3"),
          "Optuna NSGAIISampler": ("#e69f00", "7 3"), "rungs, warm starts": ("#0072b2", ""),
          "rung of 9, full from scratch": ("#56b4e9", "2 3"), "rung of 9, warm starts, as found": ("#d55e00", "2 3")}
_LEAST, _STEPS = 0.02, 160  # of plain's time


def picture(record: dict[str, Any]) -> str:
    """The SVG's text, from a record of `verdict.replay_all` alone; of its searches those that `STYLES` names."""
    times = np.geomspace(_LEAST, 1.0, _STEPS)
    bands = {split: {name: np.quantile([[curve.at(time * record["seconds"]) for time in times]
                                        for curve in (Curve(points, split) for points in runs)],
                                       (0.25, 0.5, 0.75), axis=0)
                     for name, runs in record["points"].items() if name in STYLES} for split in SPLITS}
    tops = [band[2].max() for several in bands.values() for band in several.values()]
    low, high = _ends(max(tops), [found["level"] for found in record["verdict"].values()])
    title = "Hypervolume of what a search would hand over, against its training time"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
             f'height="{HEIGHT}" role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, '
             'sans-serif">', f"<title>{escape(title)}; {escape(record['title'])}</title>",
             f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" fill="#ffffff" '
             f'stroke="{GRID}"/>',
             _text(PANELS[0][0], 34, title, size=18, colour=INK, weight=600),
             _text(PANELS[0][0], 56, record["title"], size=13),
             _text(PANELS[0][0], 74, f"{record['seeds']} seeds, population {record['population']}, replayed on a table "
                   "of real trainings; median and middle half; dotted: where plain NSGA-II ends")]
    for (left, right), split in zip(PANELS, SPLITS):
        parts += _panel(left, right, low, high, split, bands[split], times, record)
    parts += _legend([name for name in STYLES if name in record["points"]])
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, right: int, low: float, high: float, split: str, bands: dict[str, np.ndarray],
           times: np.ndarray, record: dict[str, Any]) -> list[str]:
    floor = HEIGHT - BOTTOM

    def x(share: float) -> float:
        return left + (right - left) * (1 - math.log(share) / math.log(_LEAST))

    def y(value: float) -> float:
        return floor - (min(max(value, low), high) - low) / (high - low) * (floor - TOP)

    parts = [_text(left, TOP - 14, f"measured on {split}" + (", which the search sees" if split == "validation" else
                                                            ", which it never sees"), colour=INK, weight=600)]
    for value in np.arange(low, high + 1e-9, 0.05):
        parts += [f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{GRID}"/>',
                  _text(left - 8, y(value) + 4.5, f"{value:.2f}", anchor="end")]
    for share in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        parts += [f'<line x1="{x(share):.1f}" x2="{x(share):.1f}" y1="{TOP}" y2="{floor}" '
                  f'stroke="{SOFT if share == SHARE else GRID}"/>',
                  _text(x(share), floor + 18, f"{share:g}", anchor="middle")]
    parts.append(_text((left + right) / 2, floor + 40, f"training time over plain NSGA-II's {record['seconds']:.0f} s",
                       size=13, anchor="middle", colour=INK))
    level = y(record["verdict"][split]["level"])
    parts.append(f'<line x1="{left}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}" stroke="{INK}" '
                 'stroke-dasharray="1 4"/>')
    for name, (lower, _, upper) in bands.items():
        around = [f"{x(time):.1f} {y(value):.1f}" for time, value in [*zip(times, upper),
                                                                     *zip(times[::-1], lower[::-1])]]
        parts.append(f'<path d="M{"L".join(around)}Z" fill="{STYLES[name][0]}" fill-opacity="0.09"/>')
    for name, (_, middle, _) in bands.items():
        colour, dashes = STYLES[name]
        line = [f"{x(time):.1f} {y(value):.1f}" for time, value in zip(times, middle) if value >= low]
        if line:
            parts.append(f'<path d="M{"L".join(line)}" fill="none" stroke="{colour}" stroke-width="2" '
                         f'stroke-dasharray="{dashes}"/>')
    return parts


def _legend(names: list[str]) -> list[str]:
    parts = []
    for place, (name, (colour, dashes)) in enumerate((name, STYLES[name]) for name in names):
        left, top = PANELS[0][0] + 255 * (place % 3), HEIGHT - 46 + 22 * (place // 3)
        parts += [f'<line x1="{left}" x2="{left + 30}" y1="{top - 4}" y2="{top - 4}" stroke="{colour}" '
                  f'stroke-width="2.5" stroke-dasharray="{dashes}"/>', _text(left + 38, top, name, size=13, colour=INK)]
    return parts


def _ends(top: float, levels: list[float]) -> tuple[float, float]:
    """The ends of the vertical axis, on its grid: where curves part, not the emptiness below."""
    return 0.05 * math.floor((min(levels) - 0.2) / 0.05), 0.05 * math.ceil(top / 0.05)


def _text(x: float, y: float, text: str, *, size: int = 12, colour: str = SOFT, anchor: str = "start",
          weight: int = 400) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(text)}</text>')
