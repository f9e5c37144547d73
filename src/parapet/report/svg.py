"""The front as a static SVG for the README: no script, no font from a network, readable on light and dark pages."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from parapet.report import colours, wording
from parapet.report.members import members

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 78, 150, 104, 70
INK, SOFT, GRID = "#1c1e21", "#5d636b", "#e6e8eb"


def front_svg(front: dict[str, Any]) -> str:
    """FLOPs (log) against robust accuracy on test with 95 % intervals; clean accuracy is the colour."""
    own, undefended = members(front), front["undefended"]
    shown = [*own, undefended]
    logs = [math.log10(max(candidate["flops"], 1)) for candidate in shown]
    pad = 0.07 * max(max(logs) - min(logs), 0.6)
    low, high = min(logs) - pad, max(logs) + pad
    top = _ceiling(max(candidate["test"]["robust_interval"][1] for candidate in shown))
    ends = colours.span([candidate["test"]["clean_accuracy"] for candidate in own or shown])

    def x(flops: float) -> float:
        return LEFT + (math.log10(max(flops, 1)) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        return HEIGHT - BOTTOM - accuracy / top * (HEIGHT - TOP - BOTTOM)

    parts = [*_frame(front, own), *_axes(x, y, low, high, top)]
    path = _staircase(own, x, y)
    if path:
        parts.append(f'<path d="{path}" fill="none" stroke="{colours.FAINT}" stroke-width="1.5" '
                     'stroke-dasharray="2 4"/>')
    for candidate in own:
        share = (candidate["test"]["clean_accuracy"] - ends[0]) / max(ends[1] - ends[0], 1e-9)
        parts += _point(candidate, x, y, colours.at(share))
    parts += _cross(undefended, x, y)
    parts += _colour_bar(ends)
    return "\n".join([*parts, "</svg>", ""])


def _frame(front: dict[str, Any], own: list[dict[str, Any]]) -> list[str]:
    count, block = len(own), front["undefended"]["test"]
    title = f"The Pareto front on {front['data']['name']}: {count} candidate{'s' if count != 1 else ''}"
    below = (f"share of n = {block['n']:,} test images that survive every attack, {wording.threat(front['threat'])}; "
             "bars are 95 % intervals")
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, '
            'sans-serif">',
            f"<title>{escape(title)}; {escape(below)}</title>",
            # GitHub shows pictures on white and on near black: the card brings its own ground.
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" fill="#ffffff" stroke="{GRID}"/>',
            _text(LEFT, 36, title, size=18, colour=INK, weight=600), _text(LEFT, 58, below, size=13),
            _text(LEFT, 78, "attacks: " + ", ".join(front["undefended"]["test"]["attacks"]), size=12)]


def _axes(x: Any, y: Any, low: float, high: float, top: float) -> list[str]:
    parts = []
    step = 0.2 if top > 0.6 else 0.1 if top > 0.25 else 0.05
    for index in range(int(round(top / step, 6)) + 1):
        height = y(index * step)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 10, height + 4.5, f"{100 * index * step:.0f} %", anchor="end"))
    decades = range(math.floor(low), math.ceil(high) + 1)
    digits = range(1, 10) if high - low < 0.7 else (1, 2, 5) if high - low < 2.5 else (1,)
    for flops in (digit * 10.0**decade for decade in decades for digit in digits):
        if low <= math.log10(flops) <= high:
            parts.append(f'<line x1="{x(flops):.1f}" x2="{x(flops):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
                         f'stroke="{GRID}"/>')
            parts.append(_text(x(flops), HEIGHT - BOTTOM + 20, wording.count(flops), anchor="middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 22, "FLOPs per image", size=14, anchor="middle",
                       colour=INK))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="24" y="{middle}" font-size="14" fill="{INK}" text-anchor="middle" '
                 f'transform="rotate(-90 24 {middle})">robust accuracy</text>')
    return parts


def _point(candidate: dict[str, Any], x: Any, y: Any, colour: str) -> list[str]:
    left, test = x(candidate["flops"]), candidate["test"]
    label = (f"{candidate['id']}: {candidate['description']}; robust "
             f"{wording.with_interval(test['robust_accuracy'], test['robust_interval'], test['n'])}, clean "
             f"{wording.percent(test['clean_accuracy'])}, {wording.count(candidate['flops'])} FLOPs")
    return [f"<g><title>{escape(label)}</title>", _whisker(left, test["robust_interval"], y),
            f'<circle cx="{left:.1f}" cy="{y(test["robust_accuracy"]):.1f}" r="7" fill="{colour}" stroke="#ffffff" '
            'stroke-width="1.5"/></g>']


def _cross(undefended: dict[str, Any], x: Any, y: Any) -> list[str]:
    left, test = x(undefended["flops"]), undefended["test"]
    height = y(test["robust_accuracy"])
    # The name goes to the side that has room, and a net at 0 % keeps clear of the axis.
    before = left > (LEFT + WIDTH - RIGHT) / 2
    return [_whisker(left, test["robust_interval"], y),
            f'<path d="M{left - 6:.1f} {height - 6:.1f}l12 12m0 -12l-12 12" stroke="{colours.UNDEFENDED}" '
            'stroke-width="3.5" stroke-linecap="round"/>',
            _text(left + (-14 if before else 14), height - 9,
                  f"undefended net: {wording.percent(test['robust_accuracy'])}", anchor="end" if before else "start",
                  colour=colours.UNDEFENDED)]


def _whisker(left: float, interval: list[float], y: Any) -> str:
    bottom, top = y(interval[0]), y(interval[1])
    return (f'<path d="M{left:.1f} {bottom:.1f}V{top:.1f}M{left - 4:.1f} {top:.1f}h8M{left - 4:.1f} {bottom:.1f}h8" '
            f'fill="none" stroke="{colours.FAINT}" stroke-width="1.3"/>')


def _staircase(own: list[dict[str, Any]], x: Any, y: Any) -> str:
    path, highest = "", -1.0
    for candidate in own:
        robust = candidate["test"]["robust_accuracy"]
        if robust > highest:
            path += (f"H{x(candidate['flops']):.1f}V{y(robust):.1f}" if path
                     else f"M{x(candidate['flops']):.1f} {y(robust):.1f}")
            highest = robust
    return path


def _colour_bar(ends: tuple[float, float]) -> list[str]:
    left, height = WIDTH - RIGHT + 34, HEIGHT - TOP - BOTTOM
    slices = 60
    parts = [f'<rect x="{left}" y="{TOP + height * (1 - (index + 1) / slices):.1f}" width="13" '
             f'height="{height / slices + 0.6:.1f}" fill="{colours.at((index + 0.5) / slices)}"/>'
             for index in range(slices)]
    digits = 0 if ends[1] - ends[0] > 0.04 else 1
    for share in (0.0, 0.5, 1.0):
        accuracy = ends[0] + share * (ends[1] - ends[0])
        parts.append(_text(left + 20, TOP + height * (1 - share) + 4.5, f"{100 * accuracy:.{digits}f} %"))
    middle = TOP + height / 2
    parts.append(f'<text x="{left + 80}" y="{middle}" font-size="14" fill="{INK}" text-anchor="middle" '
                 f'transform="rotate(-90 {left + 80} {middle})">clean accuracy</text>')
    return parts


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = SOFT,
          weight: int = 400) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(text)}</text>')


def _ceiling(value: float) -> float:
    step = 0.2 if value > 0.6 else 0.1 if value > 0.25 else 0.05
    return min(1.0, math.ceil(value / step - 1e-9) * step) or step
