"""The model card of one candidate, in Markdown: what it is for, what was measured, and what was not."""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import Any

import jinja2

from parapet.report import wording
from parapet.report.members import attack_names


def model_card(candidate: dict[str, Any], front: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The card of `candidate`, a member or variant of `front`, with its record evaluation/<id>.json.

    An empty `evaluation` is allowed: the card then lacks intervals of single attacks and the audit's checks.
    """
    measured = evaluation.get("evaluation", {}).get("attacks", {})
    rows = [(name, accuracy, measured.get(name, {}).get("interval"),
             front["undefended"]["test"]["attacks"].get(name))
            for name, accuracy in ((name, candidate["test"]["attacks"][name]) for name in attack_names([candidate]))]
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
                                     autoescape=False, keep_trailing_newline=True)
    environment.filters |= {"percent": wording.percent, "interval": wording.interval, "si": wording.count,
                            "duration": wording.duration, "milliseconds": wording.milliseconds,
                            "number": wording.number, "plain": plain}
    template = environment.from_string(resources.files(__package__).joinpath("card.md").read_text(encoding="utf-8"))
    return template.render(candidate=candidate, front=front, threat=wording.threat(front["threat"]), rows=rows,
                           audit=evaluation.get("audit"), onnx=evaluation.get("onnx"),
                           distances=wording.distances(measured), undefended=front["undefended"],
                           with_interval=wording.with_interval)


def plain(text: Any) -> str:
    """Text that Markdown shows as it is: on one line, with no markup, no HTML and no end of a table cell."""
    line = " ".join(str(text).split())
    for mark in "\\`*_[]|":
        line = line.replace(mark, "\\" + mark)
    return escape(line, quote=False)
