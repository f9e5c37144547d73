"""Damage to valid input: of its bytes, of its text, and of what it says."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Sequence
from typing import Any

TOKENS: tuple[bytes, ...] = (
    b"", b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r\n", b"\t", b"\n\n", b" ", b"'", b'"',
    b"\\",
    b"[", b"]", b"{", b"}", b":", b",", b"-", b"? ", b"? [a]: 1", b"&a ", b"*a", b"&a [*a]", b"!", b"!!int ",
    b'!!int ""',
    b"!!bool x", b"!!timestamp x", b"!!python/object:os.system ", b"!!binary ", b"!!set ", b"<<: ", b"---\n", b"...\n",
    b"%YAML 1.2\n", b"#", b"|", b">", b"~", b"null", b"true", b"yes", b"NaN", b".nan", b"Infinity", b"-.inf", b"1e999",
    b"1e-05", b"1e1", b"-1", b"0", b"-0", b"0x10", b"0o17", b"010", b"1_000", b"9" * 30, b"9" * 400, b"9" * 5000,
    b"8/255", b"1/0", b"1/" + b"9" * 400, b"\\ud800", b"\\u0000", b"\\UFFFFFFFF", b"[" * 40, b"[" * 2000, b"{" * 2000,
    b"- " * 500, b"{a: " * 500, b"x" * 90, b"x" * 5000, "ü🦜\u2028\u202e".encode(), b"../../..", b"/dev/zero", b"%s%n",
    b"cuda:99999999999", b"knee", b"__metadata__", b"genome", b"schema_version", b"2020-01-01", b"1:30:00",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 64, 1000, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.5, 1e-300, 1e300,
    -1e300, math.nan, math.inf, -math.inf, 1e-5, "", "x", "auto", "none", "null", "cuda", "cuda:0", "linf",
    "trades", "nan",
    "8/255", "1e-3", "knee", "\0", "\ud800", "a\nb", "x" * 90, "x" * 5000, "9" * 400, "🦜", "../..", [], {}, [[]],
    [None],
    [1, 2, 3], ["flops"], {"a": 1}, {"": None}, [[[[[[[[]]]]]]]], [1] * 50, 1.5, "0", "-1", "true", [0.1, 0.2],
)


def damaged(chance: random.Random, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`content` after one to six blows; `others` are what it may be spliced with."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        place = chance.randrange(len(found) + 1)
        end = min(len(found), place + chance.choice((1, 2, 8, 64, 1024)))
        blow = chance.randrange(9)
        if blow == 0 and place < len(found):
            found[place] ^= 1 << chance.randrange(8)
        elif blow == 1 and place < len(found):
            found[place] = chance.randrange(256)
        elif blow == 2:
            del found[place:end]
        elif blow == 3:
            found[place:place] = found[place:end]
        elif blow in (4, 5):
            found[place:end if chance.random() < 0.5 else place] = chance.choice(TOKENS)
        elif blow == 6:
            del found[place:]
        elif blow == 7 and others:
            other = chance.choice(others)
            found[place:] = other[chance.randrange(len(other) + 1):]
        else:
            found[place:end] = chance.randbytes(end - place)
    return bytes(found)


def twisted(chance: random.Random, value: Any, odd: Sequence[Any] = VALUES) -> Any:
    """A copy of nested lists and dicts that says something else in one to three places."""
    found = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2, 3))):
        found = _twist(chance, found, odd)
    return found


def _twist(chance: random.Random, value: Any, odd: Sequence[Any]) -> Any:
    places = list(_places(value))
    if not places:
        return copy.deepcopy(chance.choice(odd))
    holder, key = chance.choice(places)
    blow = chance.randrange(10)
    if blow < 5:
        holder[key] = copy.deepcopy(chance.choice(odd))
    elif blow == 5:
        del holder[key]
    elif blow == 6:
        other, there = chance.choice(places)
        if _holds(other, there):
            holder[key] = copy.deepcopy(other[there])
    elif blow == 7:
        holder[key] = _near(chance, holder[key])
    elif blow == 8 and isinstance(holder, dict):
        name = str(chance.choice(odd))[:200] if chance.random() < 0.5 else f"{key}_"
        holder[name] = holder.pop(key)
    else:
        deep = holder[key]
        for _ in range(chance.choice((1, 3, 70))):
            deep = [deep] if chance.random() < 0.5 else {"a": deep}
        holder[key] = deep
    return value


def _near(chance: random.Random, value: Any) -> Any:
    """Something like the value."""
    if isinstance(value, bool) or value is None:
        return chance.choice((True, False, None))
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 10, 2**16, -(2**16), 2**64))
    if isinstance(value, float):
        return value * chance.choice((-1, 0.999, 10, 1e10, 1e-10))
    if isinstance(value, str):
        place = chance.randrange(len(value) + 1)
        return value[:place] + chance.choice("ax019 -_./\n\0é") + value[place + chance.randrange(2):]
    return copy.deepcopy(list(value) * 2) if isinstance(value, list) else {}


def _places(value: Any) -> Any:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(item)


def _holds(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def json_bytes(value: Any) -> bytes:
    """The value as JSON, NaN, infinity and half characters included, as no strict writer would write it."""
    return json.dumps(value).encode("ascii")
