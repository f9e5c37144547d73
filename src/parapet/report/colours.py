"""The colours that the page's plots and the README's picture share; both print well and suit colour-blind eyes."""

from __future__ import annotations

ACCENT = "#3b6fe0"
UNDEFENDED = "#d6453d"
FAINT = "#8a919c"
SCALE: tuple[tuple[float, str], ...] = ((0.0, "#4b2a7b"), (0.25, "#3e5f9e"), (0.5, "#2a9087"), (0.75, "#6cc35a"),
                                        (1.0, "#f4df3d"))


def at(share: float) -> str:
    """The colour at `share` (0 to 1) of the scale, as #rrggbb."""
    share = min(1.0, max(0.0, share))
    for (low, first), (high, second) in zip(SCALE, SCALE[1:]):
        if share <= high:
            part = (share - low) / (high - low)
            return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(_rgb(first), _rgb(second)))
    return SCALE[-1][1]


def span(values: list[float], least: float = 0.02) -> tuple[float, float]:
    """The ends of a colour bar over accuracies; never so narrow that noise takes the whole scale."""
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low)) / 2
    return max(0.0, low - missing), min(1.0, high + missing)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
