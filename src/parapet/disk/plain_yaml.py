"""Plain YAML of a limited size: null, true and false, numbers, text, lists and mappings.

Scalars follow YAML 1.2, as in DVC: `1e-05` and `1e1` are numbers, `yes` and `2020-01-01` are text, `010` is ten.
Every key is text, exactly as written. PyYAML scans and parses; this module builds the values, because PyYAML's loaders
follow YAML 1.1 and have no limits.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from parapet.disk.plain_json import NotPlain
from parapet.errors import InputError
from parapet.quoting import LONGEST, name, words

MOST_BYTES, MOST_VALUES, MOST_ALIASES, DEEPEST = 256 * 1024, 20_000, 100, 32
LONGEST_TEXT, LONGEST_NUMBER = 4096, 100

_PREFIX = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BASES = {"0o": 8, "0x": 16}


def read(path: Path, missing: str) -> Any:
    """The value of a YAML file; None for an empty file.

    Raises InputError, with one sentence, where the file is missing, too large, unreadable or not plain YAML. `missing`
    is the advice in that sentence for a missing file.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {missing}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} cannot be read (it is not UTF-8); give a readable UTF-8 YAML file.") from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        raise InputError(f"{name(str(path))} cannot be read ({words(getattr(error, 'strerror', None) or error)}); give "
                         "a readable UTF-8 YAML file.") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES:,} bytes; a file of parameters needs a few thousand.")
    try:
        return loads(text)
    except NotPlain as error:
        raise InputError(f"{path} cannot be read as plain YAML: {error}; correct it there.") from None


def loads(text: str) -> Any:
    """The value of a YAML text. Raises NotPlain with a message such as `at line 3, column 1: ...`."""
    if len(text) > MOST_BYTES:
        raise NotPlain(f"at line 1, column 1: it has more than {MOST_BYTES:,} characters")
    reader: yaml.BaseLoader | None = None
    try:
        reader = yaml.BaseLoader(text)
        return _Builder(reader).document()
    except NotPlain:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotPlain(_at(mark, words(error.problem or error.context or "it does not parse"))) from None
    except yaml.reader.ReaderError:
        raise NotPlain(f"at {_place(text)}: it holds a character that YAML does not allow") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, IndexError, AttributeError) as error:
        # PyYAML's scanner raises these for invalid numbers in escapes and directives.
        raise NotPlain(_at(reader and reader.get_mark(), f"it does not parse ({words(error)})")) from None


class _Builder:
    """Builds values from the events of a parser; each limit is checked before a value is built."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self._known: dict[str, tuple[Any, int]] = {}
        self._values, self._aliases = 0, 0

    def document(self) -> Any:
        """The value of the only document of the stream; None for an empty stream."""
        found, documents = None, 0
        while not isinstance(event := self._events.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise NotPlain(_at(event.start_mark, "a second document begins, and only one is allowed"))
                found = self._value(self._events.get_event(), 0)
        return found

    def _value(self, event: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise NotPlain(_at(event.start_mark, f"it is nested more than {DEEPEST} deep"))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._values
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            _refuse_tag(event, "seq")
            value = [self._value(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        else:
            _refuse_tag(event, "map")
            value = self._mapping(depth)
        if event.anchor is not None:
            self._known[event.anchor] = value, self._values - before
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = _key(event)
            self._count(event, 1)
            if key in found:
                raise NotPlain(_at(event.start_mark, f"the key {name(key)} is given twice in one mapping"))
            found[key] = self._value(self._events.get_event(), depth + 1)
        return found

    def _alias(self, event: Any) -> Any:
        self._aliases += 1
        if event.anchor not in self._known:
            raise NotPlain(_at(event.start_mark,
                               f"the alias {name(event.anchor)} refers to no anchor defined above it"))
        if self._aliases > MOST_ALIASES:
            raise NotPlain(_at(event.start_mark, f"it has more than {MOST_ALIASES} aliases"))
        value, size = self._known[event.anchor]
        self._count(event, size)
        return copy.deepcopy(value)

    def _count(self, event: Any, size: int) -> None:
        self._values += size
        if self._values > MOST_VALUES:
            raise NotPlain(_at(event.start_mark,
                               f"it has more than {MOST_VALUES:,} values, counting every alias at its full size"))

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := self._events.get_event(), end):
            yield event


def _key(event: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise NotPlain(_at(event.start_mark, "a key has to be text, and this one is "
                           + ("an alias" if isinstance(event, yaml.AliasEvent) else "a list or a mapping")))
    _refuse_tag(event, "str")
    return _text(event)


def _scalar(event: Any) -> Any:
    text = _text(event)
    tag = _tag(event)
    if not tag and not event.implicit[0]:
        return text  # a quoted or block scalar
    value = text if tag == "str" else _plain(event, text)
    if tag == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if tag and tag != ("null" if value is None else type(value).__name__):
        raise NotPlain(_at(event.start_mark, f"{name(text)} is not a valid {tag}, although its tag says so"))
    return value


def _plain(event: Any, text: str) -> Any:
    """The value of a scalar without quotes."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if (special := _SPECIAL.fullmatch(text)) is not None:
        return math.nan if text[-1] in "nN" else -math.inf if special[1] == "-" else math.inf
    if not _FLOAT.fullmatch(text) and not _INT.fullmatch(text):
        return text
    if len(text) > LONGEST_NUMBER:
        raise NotPlain(_at(event.start_mark,
                           f"a number has {len(text)} characters, and at most {LONGEST_NUMBER} are read"))
    if _INT.fullmatch(text):
        base = _BASES.get(text[:2], 10)
        return int(text[2:] if base != 10 else text.replace("_", ""), base)
    return float(text.replace("_", ""))


def _text(event: Any) -> str:
    text: str = event.value
    if len(text) > LONGEST_TEXT:
        raise NotPlain(_at(event.start_mark, f"a text has {len(text):,} characters, and at most {LONGEST_TEXT:,} are "
                           "read"))
    if any(ord(letter) < 32 and letter not in "\t\n" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise NotPlain(_at(event.start_mark, f"the text {name(text)} contains a control character or a lone surrogate"))
    return text


def _tag(event: Any) -> str:
    """The short name of the event's type tag; empty where there is no tag."""
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return "str" if tag == "!" and isinstance(event, yaml.ScalarEvent) else ""
    short = tag.removeprefix(_PREFIX)
    if short == tag or short not in ("null", "bool", "int", "float", "str", "seq", "map"):
        raise NotPlain(_at(event.start_mark,
                           f"the tag {name(tag[-LONGEST:])} is not supported; write the value without it"))
    return short


def _refuse_tag(event: Any, kind: str) -> None:
    if (tag := _tag(event)) not in ("", kind):
        raise NotPlain(_at(event.start_mark, f"the tag {tag} does not match the value after it"))


def _at(mark: Any, problem: str) -> str:
    return f"at line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else f"at its beginning: {problem}"


def _place(text: str) -> str:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    before = text[:found.start()] if found else ""
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
