"""The report's Jinja2 templates and other files of this package, and the filters that the templates share."""

from __future__ import annotations

from functools import cache
from importlib import resources
from urllib.parse import quote

import jinja2

from parapet.report import wording


def asset(name: str) -> str:
    """The text of the file `name` of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def environment(*, markdown: bool = False) -> jinja2.Environment:
    """Loads the templates by file name. HTML and SVG escape every value; Markdown does so with the filter `plain`."""
    made = jinja2.Environment(loader=jinja2.FunctionLoader(asset), autoescape=not markdown,  # nosec B701 # see above
                              trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
                              keep_trailing_newline=markdown)
    made.filters |= {"percent": wording.percent, "interval": wording.interval, "si": wording.count,
                     "duration": wording.duration, "milliseconds": wording.milliseconds, "number": wording.number,
                     "describe": wording.describe, "distances": wording.distances, "plain": wording.plain,
                     "reattacked": wording.reattacked, "up": up}
    return made


def up(path: str) -> str:
    """A path in front.json as a link from the page, which lies one folder below it; never a link to another site."""
    return "../" + quote(path.lstrip("/"), safe="/")
