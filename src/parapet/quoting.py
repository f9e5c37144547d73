"""Formats values and texts from outside for messages: on one line, short, and without passwords.

Passwords are removed before the text is shortened, because a shortened password is not recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parapet.redaction import HIDDEN, is_secret, redacted

LONGEST = 80
_LONGEST_WORDS = 200
# For integers of more bits Python's conversion to text is slow, or raises an error.
_LARGEST_BITS = 400
_DEEPEST = 20
# The number of characters of a text that are searched for passwords; the rest is dropped.
_SEARCHED = 4000


def quote(value: Any) -> str:
    """`repr(value)` on one line without passwords, at most `LONGEST` characters; of a large value only the beginning is
    processed."""
    found = ""
    for piece in _pieces(value, 0):
        found += piece
        if len(found) > LONGEST:
            return f"{found[:LONGEST - 3]}..."
    return found


def name(key: Any) -> str:
    """A key or name without passwords: unchanged where it is a short printable text, otherwise as in `quote`."""
    plain = isinstance(key, str) and key.isprintable() and 0 < len(key) <= LONGEST
    return redacted(key) if plain else quote(key)


def listed(names: Any) -> str:
    """Names or values separated by commas, at most `LONGEST` characters."""
    found = ""
    for item in names:
        found += f"{', ' if found else ''}{name(item)}"
        if len(found) > LONGEST:
            return f"{found[:LONGEST - 3]}..."
    return found


def words(text: object) -> str:
    """The message of a library on one line, without passwords and unprintable characters, at most 200 characters."""
    found = " ".join(without_passwords(str(text)).split())
    found = "".join(letter if letter.isprintable() else "?" for letter in found)
    return found if len(found) <= _LONGEST_WORDS else f"{found[:_LONGEST_WORDS - 3]}..."


def without_passwords(text: str) -> str:
    """`text` redacted; of a long text only the beginning."""
    if len(text) <= _SEARCHED:
        return redacted(text)
    # The text may be cut inside an address: with this ending `redacted` still recognises the address.
    return redacted(f"{text[:_SEARCHED]}@...")


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        yield "..."
    elif type(value) is str:
        yield repr(without_passwords(value)[:LONGEST + 1])
    elif type(value) is int and value.bit_length() > _LARGEST_BITS:
        yield f"a number of about {value.bit_length() * 3 // 10} digits"
    elif type(value) is dict:
        yield "{"
        for place, (key, item) in enumerate(value.items()):
            yield ", " if place else ""
            yield from _pieces(key, depth + 1)
            yield ": "
            hidden = type(item) is str and item and type(key) is str and is_secret(key)
            yield from _pieces(HIDDEN if hidden else item, depth + 1)
        yield "}"
    elif type(value) in (list, tuple):
        yield "[" if type(value) is list else "("
        for place, item in enumerate(value):
            yield ", " if place else ""
            yield from _pieces(item, depth + 1)
        yield "]" if type(value) is list else ",)" if len(value) == 1 else ")"
    else:
        yield " ".join(without_passwords(repr(value)).split())
