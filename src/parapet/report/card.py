"""The model card of one candidate, in Markdown and HTML: intended use, measurements and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from parapet.report import colours, wording
from parapet.report.members import attack_names
from parapet.report.templates import environment

# The HTML card shows the curve before this section.
_AFTER_CURVES = "\n## Audit\n"


def model_card(candidate: dict[str, Any], front: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The card of `candidate`, a member or variant of `front`, with its record evaluation/<id>.json, as Markdown.

    An `evaluation` that went through the gate has `gate` (parapet.promotion.reattack). It may be empty: then the card
    lacks the intervals of single attacks, the curves and the audit's checks. The `evaluation` of a variant is not used,
    because it is its float model's.
    """
    evaluation = {} if candidate["derived_from"] else evaluation
    measured = evaluation.get("evaluation", {}).get("attacks", {})
    none = {"alone": None, "left": None}
    rows = {kind: [(name, candidate["test"]["attacks"][name][kind], measured.get(name, {}).get("interval"),
                    front["undefended"]["test"]["attacks"].get(name, none)[kind])
                   for name in attack_names([candidate], kind)] for kind in none}
    return environment(markdown=True).get_template("card.md").render(
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
    # The template of the curve escapes its values, and the Markdown was rendered without HTML.
    figure, before, after = (Markup(text) for text in (  # nosec B704
        figure, markdown.render(before), markdown.render(mark + after)))
    page = environment().get_template("card.html")
    return page.render(candidate=candidate, before=before, figure=figure, after=after)


def curve_svg(eps: Sequence[float], accuracy: Sequence[float], threat: dict[str, Any]) -> str:
    """The audit's radius curve: `accuracy` (0 to 1) of the images that are right when clean, at each radius of `eps`.

    The radius of `threat` is marked.
    """
    widest = max(*eps, threat["eps"])
    return environment().get_template("curve.svg").render(
        points=sorted(zip(eps, accuracy)), widest=widest, eps=threat["eps"], norm=wording.threat(threat).split(",")[0],
        accent=colours.ACCENT, faint=colours.FAINT, x=lambda radius: round(62 + 558 * radius / widest, 1),
        y=lambda share: round(268 - 244 * share, 1))
