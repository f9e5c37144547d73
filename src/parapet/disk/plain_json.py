"""Strict JSON for files that may be damaged or malicious: no duplicate keys, no NaN, limited depth and numbers."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from parapet.errors import InputError
from parapet.quoting import name, words

DEEPEST = 64
# Maps every digit to 0, so that one search finds a run of too many digits: a check of each number is slow.
_DIGITS, _LONG = bytes.maketrans(b"123456789", b"000000000"), b"0" * 101
# A UTF-16 surrogate: without its partner it is not a character and cannot be encoded as UTF-8.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NotPlain(InputError, ValueError):
    """A text is not plain JSON or not plain YAML; the message gives the reason in a few words."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises NotPlain for invalid JSON, invalid UTF-8, more than `DEEPEST` nested levels, NaN, Infinity, numbers that
    are too large for a float or have more than 100 digits, duplicate keys, and lone surrogates.
    """
    try:
        content = text if isinstance(text, bytes) else text.encode("utf-8")
        text = content.decode("utf-8")
        # A match is not an error yet: strings may contain as many digits, as the outcomes of images (0 and 1) do.
        whole = _short if _LONG in content.translate(_DIGITS) else int
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_int=whole,
                           parse_constant=_refused)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except NotPlain:
        raise
    except json.JSONDecodeError as error:
        raise NotPlain(f"{words(error.msg)} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise NotPlain("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise NotPlain("it holds half a character (a lone surrogate)") from None
    except RecursionError:
        raise NotPlain(_too_deep()) from None
    # Each level needs an opening bracket, so with few brackets the depth needs no check.
    if text.count("[") + text.count("{") > DEEPEST:
        _refuse_depth(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise NotPlain(f"the key {name(twice)} is given twice in one object")
    return found


def _short(text: str) -> int:
    if len(text) >= len(_LONG):
        raise NotPlain(f"it holds a number of more than {len(_LONG) - 1} digits")
    return int(text)


def _finite(text: str) -> float:
    if len(text) >= len(_LONG):
        raise NotPlain(f"it holds a number of more than {len(_LONG) - 1} digits")
    value = float(text)
    if not math.isfinite(value):
        raise NotPlain(f"it holds the number {name(text)}, which is too large")
    return value


def _refused(text: str) -> None:
    raise NotPlain(f"it holds {text}, which is no number")


def _refuse_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise NotPlain(_too_deep())
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]


def _too_deep() -> str:
    return f"it is nested more than {DEEPEST} deep"
