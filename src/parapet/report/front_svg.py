"""The front as a static SVG for the README: no script, no font from a network, readable on light and dark pages."""

from __future__ import annotations

import io
from typing import Any
from xml.dom import minidom  # nosec B408 # parses what matplotlib wrote

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from parapet.report import colours, wording
from parapet.report.members import members

# At 72 dots per inch, the points in which matplotlib measures are the pixels of the SVG.
WIDTH, HEIGHT, DPI = 860, 520, 72
LEFT, BOTTOM, PLOT_WIDTH, PLOT_HEIGHT = 78, 70, 632, 346
_MEMBERS = "members"
INK, SOFT, GRID = "#1c1e21", "#5d636b", "#e6e8eb"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "front", "font.size": 12, "text.color": SOFT, "text.parse_math": False,
         "font.sans-serif": ["DejaVu Sans", "Segoe UI", "Helvetica", "Arial"], "lines.scale_dashes": False,
         **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")}, "axes.axisbelow": True,
         "axes.labelsize": 14, "axes.labelcolor": INK, "axes.labelpad": 10, "axes.grid": True, "grid.color": GRID,
         "grid.linewidth": 1, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT, "xtick.major.size": 0,
         "ytick.major.size": 0, "xtick.major.pad": 8, "ytick.major.pad": 8}


def front_svg(front: dict[str, Any]) -> str:
    """FLOPs (log) against robust accuracy on test with 95 % intervals; the colour is clean accuracy."""
    own, undefended = members(front), front["undefended"]
    test = undefended["test"]
    title = f"The Pareto front on {front['data']['name']}: {len(own)} candidate{'s' if len(own) != 1 else ''}"
    subtitle = (f"share of n = {test['n']:,} test images that survive every attack, {wording.threat(front['threat'])}; "
                "bars are 95 % intervals")
    # Reset first: a user's matplotlibrc must not change the picture.
    with style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="none")
        canvas = FigureCanvasSVG(figure)
        # A white background of its own: GitHub shows pictures on white and on near black.
        figure.add_artist(FancyBboxPatch((10.5, 10.5), WIDTH - 21, HEIGHT - 21, boxstyle="round,pad=10", zorder=-1,
                                         facecolor="#ffffff", edgecolor=GRID, transform=None))
        for y, text, font in ((36, title, {"size": 18, "color": INK, "weight": "bold"}), (58, subtitle, {"size": 13}),
                              (78, f"attacks: {', '.join(test['attacks'])}", {})):
            figure.text(LEFT / WIDTH, 1 - y / HEIGHT, text, **font)
        _draw(figure, own, undefended)
        written = io.StringIO()
        canvas.print_svg(written, metadata={"Title": f"{title}; {subtitle}", "Date": None})
    return _with_titles(written.getvalue(), own)


def _draw(figure: Figure, own: list[dict[str, Any]], undefended: dict[str, Any]) -> None:
    """Draw the members `own`, cheapest first, as points and the undefended net as a cross, with axes and colour bar."""
    shown = [*own, undefended]
    flops = np.maximum([candidate["flops"] for candidate in shown], 1)
    tests = [candidate["test"] for candidate in shown]
    robust = np.array([test["robust_accuracy"] for test in tests])
    below, above = np.array([test["robust_interval"] for test in tests]).T
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, PLOT_WIDTH / WIDTH, PLOT_HEIGHT / HEIGHT), facecolor="none")
    low, high = np.log10([flops.min(), flops.max()])
    pad = 0.07 * max(high - low, 0.6)
    axes.set(xscale="log", xlim=(10 ** (low - pad), 10 ** (high + pad)), xlabel="FLOPs per image",
             ylim=(0, min(1.0, 1.06 * above.max())), ylabel="robust accuracy")
    digits = range(1, 10) if high - low < 0.7 else (1, 2, 5) if high - low < 2.5 else (1,)
    axes.xaxis.set(major_locator=LogLocator(subs=digits), major_formatter=lambda cost, _: wording.count(cost),
                   minor_locator=NullLocator())
    axes.yaxis.set(major_locator=MaxNLocator(6, steps=[1, 2, 5, 10]), major_formatter=PercentFormatter(1, symbol=" %"))
    axes.step(flops[:-1], np.maximum.accumulate(robust[:-1]), where="post", color=colours.FAINT, linewidth=1.5,
              linestyle=(0, (2, 4)))
    axes.errorbar(flops, robust, np.maximum(0, [robust - below, above - robust]), fmt="none", ecolor=colours.FAINT,
                  elinewidth=1.3, capsize=4, clip_on=False)
    clean = [test["clean_accuracy"] for test in tests[:-1]]
    ends = colours.span(clean)
    # matplotlib draws a colour bar of 49 or more colours as a bitmap, which viewers that load nothing may not show.
    scale = ScalarMappable(Normalize(*ends), LinearSegmentedColormap.from_list("clean", colours.SCALE, 48))
    axes.scatter(flops[:-1], robust[:-1], s=196, c=scale.to_rgba(np.array(clean)), edgecolors="#ffffff", linewidths=1.5,
                 clip_on=False, zorder=3, gid=_MEMBERS)
    axes.plot(flops[-1], robust[-1], "x", color=colours.UNDEFENDED, markersize=12, markeredgewidth=3.5, clip_on=False)
    # The label goes to the side that has room, and above the axis for a net at 0 %.
    side = -1 if np.log10(flops[-1]) > (low + high) / 2 else 1
    axes.annotate(f"undefended net: {wording.percent(robust[-1])}", (flops[-1], robust[-1]), (14 * side, 9),
                  textcoords="offset points", ha="right" if side < 0 else "left", color=colours.UNDEFENDED)
    narrow = figure.add_axes((744 / WIDTH, BOTTOM / HEIGHT, 13 / WIDTH, PLOT_HEIGHT / HEIGHT))
    bar = figure.colorbar(scale, narrow, label="clean accuracy", ticks=MaxNLocator(5), format=PercentFormatter(
        1, decimals=0 if ends[1] - ends[0] > 0.04 else 1, symbol=" %"))
    bar.outline.set_visible(False)
    # Without edges, the background shows between the colours.
    for mesh in narrow.findobj(QuadMesh):
        mesh.set(edgecolor="face")


def _with_titles(svg: str, own: list[dict[str, Any]]) -> str:
    """The SVG with a title on the point of each member of `own`, and measured in pixels instead of points."""
    document = minidom.parseString(svg)  # nosec B318 # written by matplotlib
    root = document.getElementsByTagName("svg")[0]
    for name, value in (("width", WIDTH), ("height", HEIGHT), ("role", "img")):
        root.setAttribute(name, str(value))
    root.removeChild(root.getElementsByTagName("metadata")[0])
    points = next(group for group in root.getElementsByTagName("g") if group.getAttribute("id") == _MEMBERS)
    for point, candidate in zip(points.getElementsByTagName("use"), own, strict=True):
        test = candidate["test"]
        robust = wording.with_interval(test["robust_accuracy"], test["robust_interval"], test["n"])
        title = document.createElement("title")
        title.appendChild(document.createTextNode(
            f"{candidate['id']}: {candidate['description']}; robust {robust}, clean "
            f"{wording.percent(test['clean_accuracy'])}, {wording.count(candidate['flops'])} FLOPs"))
        point.appendChild(title)
    return root.toxml() + "\n"
