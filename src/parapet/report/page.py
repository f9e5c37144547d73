"""The report: one HTML page that needs no network. plotly.js, the plots, the styles and the images are inside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from parapet.config import ReportConfig
from parapet.errors import InputError
from parapet.redaction import redacted
from parapet.report import plots, wording
from parapet.report.images import AdversarialImages, Example, examples, magnification
from parapet.report.members import attack_names, best, infeasible, members, others, sample, ties
from parapet.report.packing import pack, script_json
from parapet.report.templates import asset, environment

Record = dict[str, Any]
# plotly.js takes 4.8 MB of the 8 MB that a page may weigh; a large front shows fewer images.
IMAGE_BYTES, FOLDED_IMAGE_BYTES = 2_000_000, 700_000
# Up to this number of panels are plain HTML, readable without JavaScript; more are packed.
INLINE = 60
# At most this number of the archive's other candidates are drawn and listed: browsers stay responsive with them.
LISTED = 2000


def render(front: Record, *, evaluations: dict[str, Record], archive: list[Record],
           images: dict[str, AdversarialImages], config: ReportConfig,
           mlflow_ui: str = "http://127.0.0.1:5000", counts: dict[str, int] | None = None) -> str:
    """The page as HTML, for a file `report/index.html` in the folder of front.json.

    `evaluations` (evaluation/<id>.json) and `images` are by candidate id and may lack any of them, the undefended
    net's included; `archive` is every record of archive.jsonl, or a part of them: then `counts` says how many
    `others` and `infeasible` ones there are. Links to weights, ONNX files and evaluations are those of front.json, one
    folder up; links to MLflow runs go to the server at `mlflow_ui`, without user, password and query.

    If members and variants are more than `INLINE`, the panels and the larger tables are packed and inserted on demand.
    """
    mlflow_ui = redacted(mlflow_ui).partition("?")[0]
    if not mlflow_ui.startswith(("http://", "https://")):
        raise InputError(f"the address of MLflow is {mlflow_ui!r}; it must start with http:// or https://.")
    own, beside, undefended = members(front), front["variants"], front["undefended"]
    panels = [*own, *beside, undefended]
    folded = len(panels) > INLINE
    shown = _within_budget(front, images, config.images, FOLDED_IMAGE_BYTES if folded else IMAGE_BYTES)
    script, plotly = asset("page.js"), _plotly()
    threat = Markup('<span class="figure">{}</span>').format(wording.threat(front["threat"]))
    rest, failed = others(front, archive), infeasible(archive)
    counts = counts or {"others": len(rest), "infeasible": len(failed)}
    rest, failed = sample(rest, LISTED), failed[:LISTED]
    values = {
        "title": redacted(config.title), "front": front, "threat": threat, "own": own, "folded": folded,
        "variants": beside, "undefended": undefended, "panels": panels, "best": best(front),
        "ties": ties(front, best(front)), "kinds": attack_names, "others": rest, "count_others": counts["others"],
        "infeasible": failed, "count_infeasible": counts["infeasible"],
        "carded": {member["id"] for member in own + beside},
        "evaluations": evaluations, "images": shown,
        "magnified": {key: magnification(value) for key, value in images.items()},
        "attack_of": {key: value.attack for key, value in images.items()},
        # Files of this package and of plotly.
        "style": Markup(asset("page.css")),  # nosec B704
        "script": Markup(script), "plotly": Markup(plotly),  # nosec B704
        # Only these two scripts may run, and nothing may be loaded: the browser itself keeps the page offline.
        "policy": ("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
                   f"script-src {_hash(plotly)} {_hash(script)}"),
        "mlflow": lambda candidate: _run_link(front, candidate, mlflow_ui),
    }
    figures = _figures(front, rest)
    if folded:
        # The figures of the whole front are packed too: with a thousand members they are megabytes of hover texts.
        parts = pack([("figures", {"html": "", "figures": figures}), *_parts(values, evaluations)])
        values["packed"] = Markup(parts)  # nosec B704 # escaped by `pack`
        figures = {}
    else:
        for candidate in panels:
            figures |= _own_figures(candidate, front, evaluations)
    values["figures"] = Markup(script_json(figures))  # nosec B704 # escaped by `script_json`
    return environment().get_template("page.html").render(values)


def _parts(values: Record, evaluations: dict[str, Record]) -> Iterator[tuple[str, Record]]:
    """(name, {html, figures}) of every panel, named by its candidate's id, and of every folded table."""
    made: Any = environment().get_template("parts.html").make_module(values)
    for candidate in values["panels"]:
        yield candidate["id"], {"html": str(made.panel(candidate)),
                                "figures": _own_figures(candidate, values["front"], evaluations)}
    names = ["attacks-alone", "attacks-left", *(["variants", "attacks-variants"] if values["variants"] else []),
             *(["infeasible"] if values["infeasible"] else [])]
    for name in names:
        yield name, {"html": str(made.table_of(name)), "figures": {}}
    if values["others"]:
        yield "others", {"html": str(made.part_others()), "figures": {}}


def _figures(front: Record, rest: list[Record]) -> Record:
    """The figures of the whole front, by name."""
    figures = {f"pareto-{x}": plots.pareto(front, rest, x) for x in plots.AXES}
    return figures | {f"hypervolume-{x}": plots.hypervolume(front, x) for x in plots.VOLUME_AXES}


def _own_figures(candidate: Record, front: Record, evaluations: dict[str, Record]) -> Record:
    """The figures of one candidate by name, without those that were not measured."""
    found = {f"{name}-{candidate['id']}": make(candidate, front, evaluations) for name, make in (
        ("attacks", plots.attack_bars), ("curve", plots.eps_curve), ("steps", plots.steps_curve))}
    return {name: figure for name, figure in found.items() if figure is not None}


def _within_budget(front: Record, images: dict[str, AdversarialImages], limit: int,
                   budget: int) -> dict[str, list[Example]]:
    """At most `limit` images of each candidate of the page; fewer if all together take more than `budget`."""
    wanted = {candidate["id"] for candidate in (*front["candidates"], front["undefended"])}
    shown = {key: examples(value, front["data"]["classes"], limit) for key, value in images.items() if key in wanted}
    while sum(map(_weight, shown.values())) > budget:
        longest = max(map(len, shown.values()))
        shown = {key: value[:longest - 1] for key, value in shown.items()}
    return {key: value for key, value in shown.items() if value}


def _weight(row: list[Example]) -> int:
    return sum(len(item.clean) + len(item.adversarial) + len(item.difference) for item in row)


def _run_link(front: Record, candidate: Record, mlflow_ui: str) -> str | None:
    """The address of a candidate's run in the MLflow UI; None if it was not tracked."""
    if front["mlflow"] is None or candidate["mlflow_run_id"] is None:
        return None
    experiment, run = (quote(value, safe="") for value in (front["mlflow"]["experiment_id"],
                                                          candidate["mlflow_run_id"]))
    return f"{mlflow_ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}"


def _plotly() -> str:
    """plotly.js from the plotly package, which is not imported: it would import pandas."""
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
