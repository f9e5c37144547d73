"""How many images stay right while the radius grows, as a static SVG for the card: no script, nothing loaded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from parapet.report import colours, wording

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 20, 24, 52


def curve_svg(eps: Sequence[float], accuracy: Sequence[float], threat: dict[str, Any]) -> str:
    """The audit's radius curve: `accuracy` (0 to 1) of the images that are right when clean, at each radius of `eps`.

    The radius of `threat` is marked. Text takes the colour of what is around it, for light and dark pages.
    """
    points = sorted(zip(eps, accuracy))
    widest: float = max([radius for radius, _ in points] + [threat["eps"]])

    def x(radius: float) -> float:
        return _LEFT + radius / widest * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    title = f"Share that stays right against the radius, {wording.threat(threat).split(',')[0]}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
             f'height="{_HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12">',
             f"<title>{escape(title)}</title>"]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(share):.1f}" y2="{y(share):.1f}" '
                  f'stroke="{colours.FAINT}" stroke-opacity="0.3"/>',
                  _text(_LEFT - 8, y(share) + 4, f"{100 * share:.0f} %", "end")]
    for part in range(5):
        parts.append(_text(x(widest * part / 4), _HEIGHT - _BOTTOM + 18, f"{widest * part / 4:.3g}", "middle"))
    marked = x(threat["eps"])
    parts += [f'<line x1="{marked:.1f}" x2="{marked:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
              f'stroke="{colours.FAINT}" stroke-dasharray="3 3"/>',
              _text(marked + 6, _TOP - 8, "eps of the threat model", "start" if marked < _WIDTH / 2 else "end"),
              f'<polyline fill="none" stroke="{colours.ACCENT}" stroke-width="2.5" points="'
              + " ".join(f"{x(radius):.1f},{y(share):.1f}" for radius, share in points) + '"/>']
    parts += [f'<circle cx="{x(radius):.1f}" cy="{y(share):.1f}" r="3.5" fill="{colours.ACCENT}">'
              f"<title>eps {radius:.4g}: {wording.percent(share)}</title></circle>" for radius, share in points]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "eps", "middle"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="currentColor" text-anchor="{anchor}">{escape(text)}</text>'
