"""The report: one HTML page that needs no network. plotly.js, the plots, the styles and the images are inside it."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from parapet.config import ReportConfig
from parapet.errors import InputError
from parapet.redaction import redacted
from parapet.report import plots, wording
from parapet.report.images import AdversarialImages, Example, examples, magnification
from parapet.report.members import attack_names, best, infeasible, members, others, ties

Record = dict[str, Any]
# plotly.js takes 4.8 MB of the 8 MB that a page of some hundred candidates may weigh; a large front shows fewer images.
IMAGE_BYTES = 2_000_000


def render(front: Record, *, evaluations: dict[str, Record], archive: list[Record],
           images: dict[str, AdversarialImages], config: ReportConfig,
           mlflow_ui: str = "http://127.0.0.1:5000") -> str:
    """The page as HTML, for a file `report/index.html` in the folder of front.json.

    `evaluations` (evaluation/<id>.json) and `images` are by candidate id and may lack any of them, the undefended
    net's included; `archive` is every record of archive.jsonl. Links to weights, ONNX files and evaluations are
    those of front.json, one folder up; links to MLflow runs go to the server at `mlflow_ui`, without
    its user, password and query.
    """
    mlflow_ui = redacted(mlflow_ui).partition("?")[0]
    if not mlflow_ui.startswith(("http://", "https://")):
        raise InputError(f"the address of MLflow is {mlflow_ui!r}; it must start with http:// or https://.")
    own, beside, undefended = members(front), front["variants"], front["undefended"]
    panels = [*own, *beside, undefended]
    shown = _within_budget(front, images, config.images)
    script, plotly = _asset("page.js"), get_plotlyjs()
    threat = Markup('<span class="figure">{}</span>').format(wording.threat(front["threat"]))
    values = {
        "title": redacted(config.title), "front": front, "threat": threat, "own": own,
        "variants": beside, "undefended": undefended, "panels": panels, "best": best(front),
        "ties": ties(front, best(front)), "kinds": attack_names, "others": others(front, archive),
        "infeasible": infeasible(archive), "carded": [member["id"] for member in own + beside],
        "evaluations": evaluations, "images": shown,
        "magnified": {key: magnification(value) for key, value in images.items()},
        "attack_of": {key: value.attack for key, value in images.items()},
        "figures": _figures(front, evaluations, archive, panels),
        # Files of the package and of plotly.
        "style": Markup(_asset("page.css")),  # nosec B704
        "script": Markup(script), "plotly": Markup(plotly),  # nosec B704
        # Only these two scripts may run, and nothing may be loaded: the browser itself keeps the page offline.
        "policy": ("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
                   f"script-src {_hash(plotly)} {_hash(script)}"),
        "mlflow": lambda candidate: _run_link(front, candidate, mlflow_ui),
    }
    return _environment().get_template("page.html").render(values)


def _figures(front: Record, evaluations: dict[str, Record], archive: list[Record], panels: list[Record]) -> Markup:
    """Every figure by name as JSON that is safe inside a script element."""
    figures = {f"pareto-{x}": plots.pareto(front, archive, x) for x in plots.AXES}
    figures |= {f"hypervolume-{x}": plots.hypervolume(front, x) for x in plots.VOLUME_AXES}
    for candidate in panels:
        figures[f"attacks-{candidate['id']}"] = plots.attack_bars(candidate, front, evaluations)
        figures[f"curve-{candidate['id']}"] = plots.eps_curve(candidate, front, evaluations)
        figures[f"steps-{candidate['id']}"] = plots.steps_curve(candidate, front, evaluations)
    found = {name: json.loads(figure.to_json()) for name, figure in figures.items() if figure is not None}
    text = json.dumps(found, separators=(",", ":"), allow_nan=False)
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(text)  # nosec B704 # escaped above


def _within_budget(front: Record, images: dict[str, AdversarialImages], limit: int) -> dict[str, list[Example]]:
    """At most `limit` images of each candidate of the page; fewer where all together would weigh too much."""
    wanted = {candidate["id"] for candidate in (*front["candidates"], front["undefended"])}
    shown = {key: examples(value, front["data"]["classes"], limit) for key, value in images.items() if key in wanted}
    while sum(map(_weight, shown.values())) > IMAGE_BYTES:
        longest = max(map(len, shown.values()))
        shown = {key: value[:longest - 1] for key, value in shown.items()}
    return {key: value for key, value in shown.items() if value}


def _weight(row: list[Example]) -> int:
    return sum(len(item.clean) + len(item.adversarial) + len(item.difference) for item in row)


def _run_link(front: Record, candidate: Record, mlflow_ui: str) -> str | None:
    """The address of a candidate's run in the MLflow UI; None where it was not tracked."""
    if front["mlflow"] is None or candidate["mlflow_run_id"] is None:
        return None
    experiment, run = (quote(value, safe="") for value in (front["mlflow"]["experiment_id"],
                                                          candidate["mlflow_run_id"]))
    return f"{mlflow_ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}"


def _up(path: str) -> str:
    """A path of front.json as a link from the page, which lies one folder below; never an address elsewhere."""
    return "../" + quote(path.lstrip("/"), safe="/")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(loader=jinja2.FunctionLoader(_asset), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"percent": wording.percent, "interval": wording.interval, "si": wording.count,
                            "duration": wording.duration, "milliseconds": wording.milliseconds, "up": _up,
                            "number": wording.number, "describe": wording.describe,
                            "distances": wording.distances}
    return environment


def _asset(name: str) -> str:
    return resources.files("parapet.report").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
