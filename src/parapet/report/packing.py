"""Compresses the parts of a page that are shown on demand, in groups that the page's script decompresses."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from typing import Any

# Characters. The script decompresses a group as a whole, which takes no noticeable time at this size.
_GROUP = 400_000


def pack(parts: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """{groups, of} as JSON that is safe inside a script element.

    `parts` are (name, {html, figures}). A group is the base64 of the zlib-compressed JSON of some of them by name; `of`
    maps each name to the index of its group.
    """
    groups: list[str] = []
    of: dict[str, int] = {}
    open_group: dict[str, str] = {}
    for name, part in parts:
        of[name], open_group[name] = len(groups), as_json(part)
        if sum(map(len, open_group.values())) >= _GROUP:
            groups.append(_compress(open_group))
            open_group = {}
    if open_group:
        groups.append(_compress(open_group))
    return script_json({"groups": groups, "of": of})


def script_json(value: Any) -> str:
    """Compact JSON that cannot end the script element it stands in."""
    return as_json(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def as_json(value: Any) -> str:
    """Compact strict JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _compress(texts: dict[str, str]) -> str:
    content = "{" + ",".join(f"{as_json(name)}:{text}" for name, text in texts.items()) + "}"
    return base64.b64encode(zlib.compress(content.encode(), 9)).decode()
