"""report: writes the HTML page, the model cards and the tables for dvc plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from parapet.config import Params
from parapet.disk.files import replacing_folder, write_json, write_text
from parapet.disk.replacement import ID, refuse_foreign
from parapet.report import pareto
from parapet.report.card import card_html, model_card
from parapet.report.dvc_plots import metrics, plot_tables
from parapet.report.front_svg import front_svg
from parapet.report.images import AdversarialImages
from parapet.report.members import best, infeasible, others, sample
from parapet.report.page import LISTED, render
from parapet.store import archive
from parapet.store.front_file import read as read_front
from parapet.store.front_file import read_evaluation
from parapet.store.search_folder import SearchFolder
from parapet.tracking.address import shown
from parapet.tracking.tracker import Tracker

SECTIONS = ("report",)
_MOVE = "move that file away"
# The files that may be replaced together with their folder.
_OWN = ("index.html", "front.svg", *(f"cards/{ID}{kind}.{ending}" for kind in ("", "-int8")
                                     for ending in ("md", "html")),
        *(f"pareto/{name}.{ending}" for name in ("front", "variants") for ending in ("svg", "csv", "json")))
_TABLES = ("front", "hypervolume", "attacks", "attacks_left", "eps_curve")
# The stored images do not say which attack of the suite was the first to succeed.
_ATTACK = "first successful attack of the suite"


def run(params: Params, out: Path, *, tracker: Tracker | None = None,
        mlflow_ui: str = "http://127.0.0.1:5000") -> Path:
    """Write report/ (index.html, front.svg, cards/, pareto/) and plots/ into `out`, from its front.json.

    Returns the path of the page. `mlflow_ui` is the address for links to runs. Raises InputError if an input is
    missing or damaged, and if one of the folders holds a file that the report did not write.
    """
    check_place(out)
    front = read_front(out / "front.json")
    # The numbers of a variant are in front.json; the evaluation file that it names is its parent's.
    evaluations = {member["id"]: read_evaluation(out, member)
                   for member in (front["undefended"], *front["candidates"])}
    images = {name: _images(out / "evaluation" / result["images"])
              for name, result in evaluations.items() if result.get("images")}
    search = SearchFolder(out / "search")
    records, counts = _besides_front(front, search.archive())
    page = render(front, evaluations=evaluations, archive=records, counts=counts, images=images, config=params.report,
                  mlflow_ui=shown(mlflow_ui.strip()))
    with replacing_folder(out / "report") as folder:
        write_text(folder / "index.html", page)
        write_text(folder / "front.svg", front_svg(front))
        (folder / "cards").mkdir()
        for member in (*front["candidates"], *front["variants"]):
            for ending, make in (("md", model_card), ("html", card_html)):
                card = make(member, front, evaluations.get(member["id"], {}))
                # The folder is renamed as a whole, so a card needs no fsync of its own, which would be slow.
                (folder / "cards" / f"{member['id']}.{ending}").write_text(card, encoding="utf-8")
        write_text(folder / "pareto" / "front.svg", front_svg(front))
        for name, table in (("front", pareto.members(front)), ("variants", pareto.variants(front))):
            write_text(folder / "pareto" / f"{name}.csv", pareto.as_csv(table))
            write_text(folder / "pareto" / f"{name}.json", pareto.as_json(table))
    with replacing_folder(out / "plots") as folder:
        for name, rows in plot_tables(front, evaluations).items():
            write_json(folder / f"{name}.json", rows)
    if tracker:
        tracker.finish(search.search_id, metrics(front), {"report": out / "report" / "index.html",
                                                   "front": out / "front.json",
                                                   "pareto": out / "report" / "pareto"})
    return out / "report" / "index.html"


def check_place(out: Path) -> None:
    """Raise InputError if a new report in `out` would delete files that the report did not write."""
    refuse_foreign(out / "report", _OWN, _MOVE)
    refuse_foreign(out / "plots", [f"{name}.json" for name in _TABLES], _MOVE)


def confusion(out: Path) -> dict[str, Any]:
    """{classes, clean, adversarial}: the confusion matrices of the most robust member of `out`/front.json on test (rows
    are true classes, columns predictions), without an attack and under every attack of the suite."""
    front = read_front(out / "front.json")
    return {"classes": front["data"]["classes"], **read_evaluation(out, best(front))["confusion"]}


def _besides_front(front: dict[str, Any], path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The records of the archive at `path` that the page shows besides the front, and the number of each kind.

    An archive may hold 100,000 records: to save memory, a first pass keeps their summaries, and a second one reads the
    records that are shown.
    """
    places = archive.latest_places(archive.places(path))
    summaries = [{**record, "place": place} for place, record in
              enumerate(archive.latest(map(_summary, archive.stream(path))))]
    rest, failed = others(front, summaries), infeasible(summaries)
    wanted = sorted({record["place"] for record in [*sample(rest, LISTED), *failed[:LISTED]]})
    return (archive.at_places(path, [places[place] for place in wanted]),
            {"others": len(rest), "infeasible": len(failed)})


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    """The fields that decide whether and where a record is shown."""
    return {**{name: record[name] for name in ("id", "looks", "generation", "status", "repeat")},
            "validation": record["validation"] and {}, "fidelity": {"full": record["fidelity"]["full"]}}


def _images(path: Path) -> AdversarialImages:
    stored: dict[str, Any] = {name: np.asarray(value) for name, value in load_file(path).items()}
    return AdversarialImages(**stored, attack=_ATTACK)
