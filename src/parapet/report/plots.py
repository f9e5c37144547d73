"""The page's plots as plotly reads them from JSON, one pure function each; the page's script adds the theme's colours.

Plain dicts instead of plotly's classes: those take 0.1 s to check a figure, and a page may hold three figures for each
of a thousand candidates.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any

from parapet.report import colours, wording
from parapet.report.dvc_plots import curve
from parapet.report.members import attack_names, members, others

Record = dict[str, Any]
# {data, layout}, as Plotly.react takes them.
Figure = dict[str, Any]
AXES = {"flops": "FLOPs per image", "latency": "latency per batch of the ONNX graph, p50 (ms)"}
# More points than this are drawn smaller, because they lie close together.
_CROWD = 60
# An attack has one of two kinds of accuracy: alone, or what is left after it and all before it. In drawing order.
ATTACK_LABELS = {"alone": "{} alone", "left": "all up to {}"}
VOLUME_AXES = {"generation": "generation", "candidates": "candidates measured",
               "training_seconds": "training time spent (s)"}


def pareto(front: Record, archive: list[Record], x: str = "flops") -> Figure:
    """Robust accuracy on test against cost (`flops` or `latency`); customdata of every point is its id."""
    own, beside, rest = members(front), front["variants"], others(front, archive)
    rest = [record for record in rest if _cost(record, x) is not None]
    low, high = colours.span([candidate["test"]["clean_accuracy"] for candidate in own + beside])
    marker = {"cmin": low, "cmax": high, "colorscale": [list(stop) for stop in colours.SCALE],
              "line": {"width": 1.5, "color": colours.FAINT}}
    bar = {"title": {"text": "clean accuracy", "side": "right", "font": {"size": 13}},
           "tickformat": ".0%" if high - low > 0.04 else ".1%", "thickness": 12, "len": 0.9, "outlinewidth": 0}
    # The line joins the most robust members up to each cost: a member below it is on the front for its clean accuracy.
    steps = _staircase(own, x)
    traces: list[Record] = [
        {"type": "scatter", "x": [_cost(record, x) for record in rest],
         "y": [_short(record["validation"]["robust_accuracy"]) for record in rest], "mode": "markers",
         "name": "others of the archive (validation)", "customdata": [record["id"] for record in rest],
         "hovertext": [_hover_archive(record) for record in rest], "hoverinfo": "text", "meta": "archive",
         "marker": {"size": 7, "color": colours.FAINT, "opacity": 0.42}, "visible": bool(rest)},
        {"type": "scatter", "x": [step[0] for step in steps], "y": [step[1] for step in steps], "mode": "lines",
         "meta": "line", "name": "most robust member at this cost", "hoverinfo": "skip",
         "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": colours.FAINT}},
        _points(own, x, "members of the front (test)", front,
                {**marker, "size": 14 if len(own) <= _CROWD else 8, "colorbar": bar, "showscale": True}, "front"),
        _points(beside, x, "quantised variants: upper bounds (test)", front,
                {**marker, "size": 12 if len(beside) <= _CROWD else 7, "symbol": "triangle-down"}, "variants"),
        _points([front["undefended"]], x, "undefended net (test)", front,
                {"size": 13, "symbol": "x", "color": colours.UNDEFENDED}, "undefended")]
    # Many triangles would hide the front: they are off until the reader clicks their name in the legend.
    traces[3]["visible"] = bool(beside) and (len(beside) <= _CROWD or "legendonly")
    shown = own + beside + [front["undefended"]]
    costs = [_cost(record, x) for record in shown + rest]
    top = max([record["test"]["robust_interval"][1] for record in shown]
              + [record["validation"]["robust_accuracy"] for record in rest])
    return _figure(traces, {"height": 520, "legend": _legend(-0.17), "hovermode": "closest",
                            "margin": {"l": 62, "r": 16, "t": 14}},
                   x={"title": AXES[x], "type": "log", "range": _log_range(costs), **_log_ticks(costs, x)},
                   y={"title": "robust accuracy", "tickformat": ".0%", "range": [-0.03, min(1.04, top + 0.06)]})


def attack_bars(candidate: Record, front: Record, evaluations: dict[str, Record]) -> Figure:
    """Accuracy of one candidate under each attack of the test suite alone, then after those that were run on survivors
    only, with the undefended net for comparison."""
    undefended = front["undefended"]
    shown = [(candidate, legend_name(candidate, front), colours.ACCENT)]
    if candidate["id"] != undefended["id"]:
        shown.append((undefended, "undefended net", colours.UNDEFENDED))
    traces = []
    for record, name, colour in shown:
        rows = [("no attack", record["test"]["clean_accuracy"], record["test"]["clean_interval"])]
        measured = evaluations.get(record["id"], {}).get("evaluation", {}).get("attacks", {})
        rows += [(escape(label.format(attack)), record["test"]["attacks"][attack][kind],
                  measured.get(attack, {}).get("interval"))
                 for kind, label in ATTACK_LABELS.items() for attack in attack_names([candidate], kind)
                 if record["test"]["attacks"].get(attack, {}).get(kind) is not None]
        rows += [("<b>every attack</b>", record["test"]["robust_accuracy"], record["test"]["robust_interval"])]
        values = [_short(row[1]) for row in rows]
        traces.append({"type": "bar", "y": [row[0] for row in rows], "x": values, "orientation": "h", "name": name,
                       "marker": {"color": colour}, "hovertext": [_bar_hover(name, row, record) for row in rows],
                       "hoverinfo": "text", "error_x": _error(values, [row[2] for row in rows])})
    return _figure(traces, {"height": 150 + 40 * (len(candidate["test"]["attacks"]) + 2), "barmode": "group",
                            "bargap": 0.28, "bargroupgap": 0.08, "legend": _legend(-0.16),
                            "margin": {"l": 10, "r": 16, "t": 8}},
                   x={"title": "accuracy on test", "tickformat": ".0%", "range": [0, 1.02]},
                   y={"autorange": "reversed", "automargin": True, "showgrid": False})


def eps_curve(candidate: Record, front: Record, evaluations: dict[str, Record]) -> Figure | None:
    """Accuracy against the radius, with the undefended net for comparison; None if no curve was measured.

    The curve is the audit's radius check: one attack, on the images that are right without it. So it starts at 1 and
    lies above the suite's robust accuracy, and the axis must not be labelled robust accuracy.
    """
    if not curve(evaluations.get(candidate["id"])):
        return None
    traces = [{**line, "x": [eps for eps, _ in points], "y": [_short(share) for _, share in points],
               "hovertemplate": f"eps %{{x:.4g}}: %{{y:.1%}}<extra>{line['name']}</extra>"}
              for record, line in _lines(candidate, front) if (points := curve(evaluations.get(record["id"])))]
    eps = front["threat"]["eps"]
    marked = {"type": "line", "x0": eps, "x1": eps, "y0": 0, "y1": 1, "xref": "x", "yref": "y domain",
              "line": {"color": colours.FAINT, "dash": "dot", "width": 1.5}}
    note = {"text": "eps of the threat model", "x": eps, "y": 1, "xref": "x", "yref": "y domain", "showarrow": False,
            "xanchor": "left", "yanchor": "bottom"}
    return _figure(traces, {"height": 360, "legend": _legend(-0.25), "margin": {"l": 54, "r": 16, "t": 24},
                            "showlegend": True, "shapes": [marked], "annotations": [note]},
                   x={"title": f"eps ({wording.threat(front['threat']).split(',')[0]})", "rangemode": "tozero"},
                   y={"title": "share that stays right", "tickformat": ".0%", "range": [-0.03, 1.03]})


def steps_curve(candidate: Record, front: Record, evaluations: dict[str, Record]) -> Figure | None:
    """The attacker's loss against the steps of PGD, with the undefended net for comparison; None if not measured.

    It is the audit's steps check: the log-odds of being wrong, above 0 if another class is likelier than the true one.
    It should rise, and level off before the number of steps that the suite's attacks take.
    """
    if not evaluations.get(candidate["id"], {}).get("curves"):
        return None
    traces = [{**line, "x": curves["steps"], "y": [_short(loss) for loss in curves["loss"]],
               "customdata": curves["steps_accuracy"],
               "hovertemplate": "%{x} steps: loss %{y:.3g}, %{customdata:.1%} stay right"
                                f"<extra>{line['name']}</extra>"}
              for record, line in _lines(candidate, front)
              if (curves := evaluations.get(record["id"], {}).get("curves"))]
    return _figure(traces, {"height": 340, "legend": _legend(-0.25), "margin": {"l": 54, "r": 16, "t": 24},
                            "showlegend": True},
                   x={"title": "steps of PGD", "type": "log", "tickvals": [1, 2, 5, 10, 20, 50, 100]},
                   y={"title": "loss (log-odds of being wrong)"})


def hypervolume(front: Record, against: str = "generation") -> Figure:
    """Hypervolume of the front at each point of the search against `generation`, `candidates` or `training_seconds`."""
    points = front["search"]["hypervolume"]
    trace = {"type": "scatter", "x": [point[against] for point in points],
             "y": [point["hypervolume"] for point in points], "mode": "lines+markers", "name": "hypervolume",
             "line": {"color": colours.ACCENT, "width": 2.5, "shape": "linear" if against == "generation" else "hv"},
             "marker": {"size": 8 if len(points) <= _CROWD else 3},
             "customdata": [[point["generation"], point["candidates"], wording.duration(point["training_seconds"])]
                            for point in points],
             "hovertemplate": "after generation %{customdata[0]}: %{y:.4g}<br>%{customdata[1]} candidates, "
                              "%{customdata[2]} of training<extra></extra>"}
    # By the range and not by the number of points: a merged archive may lack generations, but every tick is drawn.
    each = against == "generation" and points and points[-1][against] - points[0][against] <= 20
    return _figure([trace], {"height": 340, "showlegend": False, "margin": {"l": 66, "r": 16, "t": 10}},
                   x={"title": VOLUME_AXES[against], **({"dtick": 1} if each else {})},
                   y={"title": "hypervolume", "nticks": 6})


def legend_name(candidate: Record, front: Record) -> str:
    """The name of a candidate in legends."""
    return "undefended net" if candidate["id"] == front["undefended"]["id"] else f"candidate {escape(candidate['id'])}"


def _points(records: list[Record], x: str, name: str, front: Record, marker: Record, meta: str) -> Record:
    tests = [record["test"] for record in records]
    robust = [_short(test["robust_accuracy"]) for test in tests]
    colour = {} if "color" in marker else {"color": [_short(test["clean_accuracy"]) for test in tests]}
    return {"type": "scatter", "x": [_cost(record, x) for record in records], "y": robust, "mode": "markers",
            "name": name, "meta": meta, "customdata": [record["id"] for record in records],
            "marker": {**marker, **colour}, "hovertext": [_hover(record, front) for record in records],
            "hoverinfo": "text", "error_y": _error(robust, [test["robust_interval"] for test in tests])}


def _lines(candidate: Record, front: Record) -> list[tuple[Record, Record]]:
    """(candidate, the style of its line) for the undefended net and, if it is another network, for `candidate`."""
    styles = [(front["undefended"], colours.UNDEFENDED, "dash"), (candidate, colours.ACCENT, "solid")]
    if candidate["id"] == front["undefended"]["id"]:
        del styles[1]
    return [(record, {"type": "scatter", "name": legend_name(record, front), "mode": "lines+markers",
                      "line": {"color": colour, "dash": dash, "width": 2.5}}) for record, colour, dash in styles]


def _error(values: list[float], intervals: list[list[float] | None]) -> Record:
    pairs = [(value, bounds or [value, value]) for value, bounds in zip(values, intervals)]
    return {"type": "data", "symmetric": False,
            "array": [_short(max(0.0, high - value)) for value, (_, high) in pairs],
            "arrayminus": [_short(max(0.0, value - low)) for value, (low, _) in pairs],
            "color": colours.FAINT, "thickness": 1.2, "width": 4}


def _hover(record: Record, front: Record) -> str:
    test, latency = record["test"], record["latency_ms"]
    title = "undefended net " if record["id"] == front["undefended"]["id"] else ""
    return (f"<b>{title}{escape(record['id'])}</b><br>{escape(record['description'])}<br>"
            f"robust {wording.percent(test['robust_accuracy'])} ({wording.interval(test['robust_interval'])})<br>"
            f"clean {wording.percent(test['clean_accuracy'])} ({wording.interval(test['clean_interval'])})<br>"
            f"n = {test['n']:,} of test, {wording.threat(front['threat'])}, {len(test['attacks'])} attacks<br>"
            f"{wording.count(record['flops'])} FLOPs, {wording.count(record['params'])} parameters, "
            f"p50 {wording.milliseconds(latency['p50'])}<br>audit: {escape(record['audit']['verdict'])}")


def _hover_archive(record: Record) -> str:
    block = record["validation"]
    return (f"<b>{escape(record['id'])}</b>, not on the front<br>{escape(wording.describe(record['genome']))}<br>"
            f"validation, n = {block['n']:,}: robust {wording.percent(block['robust_accuracy'])} "
            f"({wording.interval(block['robust_interval'])}), clean {wording.percent(block['clean_accuracy'])}<br>"
            f"{wording.count(record['flops'] or 0)} FLOPs, generation {record['generation']}"
            + (", infeasible" if record["status"] == "infeasible" else ""))


def _bar_hover(name: str, row: tuple[str, float, list[float] | None], record: Record) -> str:
    bounds = f" ({wording.interval(row[2])})" if row[2] else ""
    return f"{name}, {row[0]}: {wording.percent(row[1])}{bounds}, n = {record['test']['n']:,}"


def _cost(record: Record, x: str) -> float | None:
    cost = record["flops"] if x == "flops" else (record["latency_ms"] or {}).get("p50")
    # A logarithmic axis has no place for zero.
    return cost if cost and cost > 0 else None


def _staircase(own: list[Record], x: str) -> list[tuple[float, float]]:
    steps: list[tuple[float, float]] = []
    for cost, robust in sorted((_cost(record, x) or 0, record["test"]["robust_accuracy"]) for record in own):
        if cost and (not steps or robust > steps[-1][1]):
            steps.append((cost, robust))
    return steps


def _log_range(costs: list[float | None]) -> list[float]:
    logs = [math.log10(cost) for cost in costs if cost] or [0.0]
    pad = 0.06 * max(max(logs) - min(logs), 1.0)
    return [min(logs) - pad, max(logs) + pad]


def _log_ticks(costs: list[float | None], x: str) -> Record:
    low, high = _log_range(costs)
    # FLOPs read well as 200k; milliseconds must not become "20m".
    form = {"tickformat": "~s" if x == "flops" else "~g"}
    return form | ({} if high - low < 0.7 else {"dtick": "D2" if high - low < 2.5 else 1})


def _legend(y: float) -> Record:
    return {"orientation": "h", "x": 0, "y": y, "yanchor": "top"}


def _short(value: float) -> float:
    """Six digits: more are not visible."""
    return round(value, 6)


def _figure(data: list[Record], layout: Record, *, x: Record, y: Record) -> Figure:
    axes = {name: {"zeroline": False, **axis, **({"title": {"text": axis["title"], "font": {"size": 13}}}
                                                if "title" in axis else {})}
            for name, axis in (("xaxis", x), ("yaxis", y))}
    return {"data": data, "layout": {
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "hoverlabel": {"align": "left"},
        "font": {"family": "system-ui, sans-serif", "size": 13}, **layout, **axes}}
