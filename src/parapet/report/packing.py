"""What a page holds and shows only when somebody asks for it: packed in groups, which the page's script opens."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from typing import Any

# A group is opened as a whole: some hundred kB of text, an instant.
_GROUP = 400_000


def packed(parts: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """{groups, of} as JSON that is safe inside a script element.

    `parts` are (name, {html, figures}). A group is the base64 of the deflated JSON of some of them by name; `of` says
    for each name which group it is in.
    """
    groups: list[str] = []
    of: dict[str, int] = {}
    open_group: dict[str, str] = {}
    for name, part in parts:
        of[name], open_group[name] = len(groups), as_json(part)
        if sum(map(len, open_group.values())) >= _GROUP:
            groups.append(_deflated(open_group))
            open_group = {}
    if open_group:
        groups.append(_deflated(open_group))
    return safe({"groups": groups, "of": of})


def safe(value: Any) -> str:
    """Compact JSON in which no element of HTML can begin or end."""
    return as_json(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def as_json(value: Any) -> str:
    """Compact strict JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _deflated(texts: dict[str, str]) -> str:
    content = "{" + ",".join(f"{as_json(name)}:{text}" for name, text in texts.items()) + "}"
    return base64.b64encode(zlib.compress(content.encode(), 9)).decode()
