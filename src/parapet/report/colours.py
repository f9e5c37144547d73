"""The colours that the page's plots and the README's picture share; they suit print and colour-blind readers."""

from __future__ import annotations

ACCENT = "#3b6fe0"
UNDEFENDED = "#d6453d"
FAINT = "#8a919c"
SCALE: tuple[tuple[float, str], ...] = ((0.0, "#4b2a7b"), (0.25, "#3e5f9e"), (0.5, "#2a9087"), (0.75, "#6cc35a"),
                                        (1.0, "#f4df3d"))


def span(values: list[float], least: float = 0.02) -> tuple[float, float]:
    """The ends of a colour bar over accuracies; at least `least` apart, so that noise does not fill the scale."""
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low)) / 2
    return max(0.0, low - missing), min(1.0, high + missing)
