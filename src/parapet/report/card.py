"""The model card of one candidate, in Markdown and HTML: what it is for, what was measured, and what was not."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from parapet.report import wording
from parapet.report.curve_svg import curve_svg
from parapet.report.members import attack_names

# The picture of the curves stands before this section of the HTML card.
_AFTER_CURVES = "\n## Audit\n"


def model_card(candidate: dict[str, Any], front: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The card of `candidate`, a member or variant of `front`, with its record evaluation/<id>.json, as Markdown.

    An `evaluation` that went through the gate has `gate` (parapet.promotion.reattack). An empty one is allowed: then
    the card lacks intervals of single attacks, curves and the audit's checks. So does that of a variant, whose
    `evaluation` is its float model's.
    """
    evaluation = {} if candidate["derived_from"] else evaluation
    measured = evaluation.get("evaluation", {}).get("attacks", {})
    none = {"alone": None, "left": None}
    rows = {kind: [(name, candidate["test"]["attacks"][name][kind], measured.get(name, {}).get("interval"),
                    front["undefended"]["test"]["attacks"].get(name, none)[kind])
                   for name in attack_names([candidate], kind)] for kind in none}
    return _card().render(
        candidate=candidate, front=front, threat=wording.threat(front["threat"]), rows=rows,
        audit=evaluation.get("audit"), onnx=evaluation.get("onnx"), curves=evaluation.get("curves"),
        gate=evaluation.get("gate"),
        distances=wording.distances(measured), undefended=front["undefended"], with_interval=wording.with_interval)


def card_html(candidate: dict[str, Any], front: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The same card as one HTML page that loads nothing, with a picture of the curve over the radius."""
    from markdown_it import MarkdownIt

    # CommonMark without its HTML: names and reasons come from outside, and stay text.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    before, mark, after = model_card(candidate, front, evaluation).partition(_AFTER_CURVES)
    curves = None if candidate["derived_from"] else evaluation.get("curves")
    figure = curve_svg(curves["eps"], curves["accuracy"], front["threat"]) if curves else ""
    # A picture of numbers, and CommonMark that was rendered with its HTML off.
    figure, before, after = (Markup(text) for text in (  # nosec B704
        figure, markdown.render(before), markdown.render(mark + after)))
    return _html_card().render(candidate=candidate, before=before, figure=figure, after=after)


@cache
def _card() -> jinja2.Template:
    # Markdown, in which the filter `plain` escapes what comes from outside.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True,  # nosec B701
                                     undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters |= {"percent": wording.percent, "interval": wording.interval, "si": wording.count,
                            "duration": wording.duration, "milliseconds": wording.milliseconds,
                            "number": wording.number, "plain": plain, "reattacked": wording.reattacked}
    return environment.from_string(_asset("card.md"))


@cache
def _html_card() -> jinja2.Template:
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_asset("card.html"))


def plain(text: Any) -> str:
    """Text that Markdown shows as it is: on one line, with no markup, no HTML and no end of a table cell."""
    line = " ".join(str(text).split())
    for mark in "\\`*_[]|":
        line = line.replace(mark, "\\" + mark)
    return escape(line, quote=False)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
