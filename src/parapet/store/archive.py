"""The archive: an append-only file with all measured candidates, one JSON line per record.

A line is `{"after":A,"sha256":S,"record":{...}}`: A is the S of the previous line (zeros in the first line), and S is
the SHA-256 of A and the record's text. A changed record does not match its S, and a removed, inserted or moved line
does not match the A of the next line. The removal of the newest lines cannot be detected here.

The chain detects what a checksum for each line would not: an archive that was put together from two copies, a line that
was deleted by hand, and lines of a backup in another order. The search would go on with candidates missing, and with
another front.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from parapet.disk.plain_json import NotPlain, loads
from parapet.errors import InputError
from parapet.quoting import quote
from parapet.store.older_blocks import converted

SCHEMA_VERSION = 5
# The older version whose records are also read, and converted.
_CONVERTED = 4
_START = b'{"after":"'
_LINE = re.compile(rb'\{"after":"([0-9a-f]{64})","sha256":"([0-9a-f]{64})","record":(\{.*\})\}')
_BEFORE_THE_FIRST = b"0" * 64
# These can be searched for because keys are sorted, and quotation marks inside strings are escaped.
_ID, _LOOKS, _VERSION = b',"id":"', b',"looks":', b',"schema_version":'
_VERSIONS = tuple(b"%d" % version for version in (_CONVERTED, SCHEMA_VERSION))
# The offset of the record in its line, in bytes.
_HEAD = len(b'{"after":"","sha256":"","record":') + 2 * len(_BEFORE_THE_FIRST)
_BLOCK = 1 << 16
REMEDY = "restore the file, or move it away to start a new archive"


def append(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Append records and flush them to disk; an incomplete last line is removed first.

    Only the end of the file is read. Raises InputError, and writes nothing, where the last line is damaged or of
    another schema version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    records = list(records)
    if not records:
        return
    with path.open("r+b" if path.exists() else "w+b") as stream:
        whole, before = _end(path, stream)
        lines = []
        for record in records:
            line, before = _line(record, before)
            lines.append(line)
        stream.truncate(whole)
        stream.seek(whole)
        stream.write(b"".join(lines))
        stream.flush()
        os.fsync(stream.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """All records, in order; none where the file does not exist.

    An incomplete last line is ignored. Raises InputError where any other line was changed, moved, removed or inserted,
    or is of another schema version.
    """
    return [_record(path, f"line {number}", text) for number, _, text in _texts(path)]


def stream(path: Path) -> Iterator[dict[str, Any]]:
    """The same records as an iterator, for callers that keep only parts: 100,000 records need a gigabyte of memory.

    Numbers are not checked individually as in `read` and `at`.
    """
    for number, _, text in _texts(path):
        try:
            # The checksum was verified, so this is what was written; the strict parser takes five times as long.
            record = json.loads(text, parse_constant=_refused)
        except (ValueError, RecursionError):
            record = None
        if record is None or record.get("schema_version") != SCHEMA_VERSION:
            record = _record(path, f"line {number}", text)
        yield record


class Place(NamedTuple):
    """The position of a record in its file (`start` and `length` in bytes), and the record's `id` and `looks`."""

    id: str
    looks: int
    start: int
    length: int


def places(path: Path) -> list[Place]:
    """The position of every record, after all checksums were verified; `at` then reads only the wanted records.

    Raises InputError as `read` does, except for invalid JSON with a correct checksum, which `at` finds.
    """
    found = []
    for number, start, text in _texts(path):
        name, looks = _indexed(text) or _named(path, f"line {number}", text)
        found.append(Place(name, looks, start, len(text)))
    return found


def at(path: Path, wanted: Sequence[Place]) -> list[dict[str, Any]]:
    """The records at the positions `wanted`, in this order. Raises InputError where one is not a valid record."""
    if not wanted:
        return []
    with path.open("rb") as opened:
        records = []
        for place in wanted:
            opened.seek(place.start)
            records.append(_record(path, f"the record {place.id}", opened.read(place.length)))
    return records


def latest_places(found: Iterable[Place]) -> list[tuple[Place, Place]]:
    """(first place, place with the most looks) of each candidate, chosen as in `latest`."""
    first: dict[str, Place] = {}
    best: dict[str, Place] = {}
    for place in found:
        first.setdefault(place.id, place)
        if place.id not in best or place.looks > best[place.id].looks:
            best[place.id] = place
    return [(place, best[name]) for name, place in first.items()]


def latest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per candidate: of several records with one id the one with the most `looks`.

    It has the position and the generation of the first of them; of records with equal `looks` the first is kept.
    """
    kept: dict[str, dict[str, Any]] = {}
    for record in records:
        known = kept.get(record["id"])
        if known is None:
            kept[record["id"]] = record
        elif record["looks"] > known["looks"]:
            kept[record["id"]] = {**record, "generation": known["generation"]}
    return list(kept.values())


def torn(path: Path) -> int:
    """The number of bytes after the last complete line, which `read` ignores; 0 for an intact file."""
    content = path.read_bytes()
    return len(content) - _whole(content)


def _line(record: dict[str, Any], before: bytes) -> tuple[bytes, bytes]:
    """A record's line, and its checksum, which the next line contains as `after`."""
    text = json.dumps(record, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    checksum = _checksum(before, text)
    return b'{"after":"%b","sha256":"%b","record":%b}\n' % (before, checksum, text), checksum


def _checksum(before: bytes, text: bytes) -> bytes:
    return hashlib.sha256(before + text).hexdigest().encode()


def at_places(path: Path, pairs: Sequence[tuple[Place, Place]]) -> list[dict[str, Any]]:
    """The records for the pairs that `latest_places` returned, in their order, as `latest` would return them."""
    first, best = (at(path, [pair[side] for pair in pairs]) for side in (0, 1))
    return [{**record, "generation": begun["generation"]} for begun, record in zip(first, best)]


def _texts(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number, offset of the record, the record as text) of every complete line, verified; an iterator.

    An incomplete last line is left out.
    """
    if not path.exists():
        return
    number, place, before = 0, 0, _BEFORE_THE_FIRST
    with path.open("rb") as opened:
        for line in opened:
            if not line.endswith(b"\n") or b"\0" in line:
                break
            number += 1
            text, before = _checked(path, f"line {number}", line[:-1], before)
            yield number, place + _HEAD, text
            place += len(line)
        else:
            return
        # From here on the file may be incomplete.
        tail = line + opened.read()
    whole = _whole(tail)
    for line in tail[:whole].split(b"\n")[:-1]:
        number += 1
        text, before = _checked(path, f"line {number}", line, before)
        yield number, place + _HEAD, text
        place += len(line) + 1
    _refuse_other_ends(path, tail[whole:])


def _checked(path: Path, where: str, line: bytes, before: bytes | None) -> tuple[bytes, bytes]:
    """(record's text, checksum) of a line; `before` is the checksum of the previous line, None where it is not known.

    Raises InputError where a checksum does not match.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        refuse_other_versions(path, where, _old_version(line))
    if match is None or _checksum(match[1], match[3]) != match[2]:
        raise InputError(f"{path} is damaged in {where}: its checksum does not fit; {REMEDY}.")
    if before is not None and match[1] != before:
        raise InputError(f"{path} is damaged in {where}: it does not follow on the line before it, so lines were taken "
                         f"out, put in or moved; {REMEDY}.")
    return match[3], match[2]


def _record(path: Path, where: str, text: bytes) -> dict[str, Any]:
    """The record in `text`, in the form of the current schema version. Raises InputError where it is damaged."""
    try:
        record = loads(text)
    except NotPlain as error:
        raise InputError(f"{path} is damaged in {where}: its record is no JSON that can be read ({error}); {REMEDY}."
                         ) from None
    refuse_other_versions(path, where, record.get("schema_version"))
    try:
        return in_todays_form(record)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged in {where}: its record has another form than its schema version says; "
                         f"{REMEDY}.") from None


def _refused(text: str) -> None:
    raise ValueError(text)


def _indexed(text: bytes) -> tuple[str, int] | None:
    """The record's (id, looks), found without parsing; None where they are not at the expected positions."""
    first = text.find(_ID) + len(_ID)
    last = text.find(b'"', first)
    looks = text.find(_LOOKS, last) + len(_LOOKS)
    digits = text[looks:text.find(b",", looks)]
    version = text.find(_VERSION, looks) + len(_VERSION)
    name = text[first:last]
    if (first < len(_ID) or looks < len(_LOOKS) or not digits.isdigit() or b"\\" in name or version < len(_VERSION)
            or text[version:text.find(b",", version)] not in _VERSIONS):
        return None
    return name.decode(), int(digits)


def _named(path: Path, where: str, text: bytes) -> tuple[str, int]:
    """The record's (id, looks), from the parsed record. Raises InputError where they are missing."""
    record = _record(path, where, text)
    name, looks = record.get("id"), record.get("looks")
    if type(name) is not str or type(looks) is not int:
        raise InputError(f"{path} is damaged in {where}: its record has no id and looks; {REMEDY}.")
    return name, looks


def _end(path: Path, stream: BinaryIO) -> tuple[int, bytes]:
    """(length in bytes without an incomplete last line, checksum of the last complete line)."""
    size, block, start, whole, tail = stream.seek(0, os.SEEK_END), _BLOCK, -1, 0, b""
    while start != 0 and not whole:
        start, block = max(0, size - block), 2 * block
        stream.seek(start)
        tail = stream.read()
        if start:
            # The bytes before the first newline are the end of an earlier line.
            start += tail.find(b"\n") + 1
            tail = tail[tail.find(b"\n") + 1:]
        whole = _whole(tail)
    checksum = _BEFORE_THE_FIRST
    if whole:
        text, checksum = _checked(path, "its last line", tail[:whole - 1].rsplit(b"\n", 1)[-1], None)
        _record(path, "its last line", text)
    _refuse_other_ends(path, tail[whole:])
    return start + whole, checksum


def _whole(content: bytes) -> int:
    """The number of bytes of `content`, which starts with a line, that are complete lines.

    An interrupted append leaves no newline, or zero bytes where the data did not reach the disk.
    """
    end = content.rfind(b"\n") + 1
    while end and b"\0" in content[(start := content.rfind(b"\n", 0, end - 1) + 1):end]:
        end = start
    return end


def refuse_other_versions(path: Path, where: str, version: Any) -> None:
    """Raise InputError where this Parapet does not read records of that schema version."""
    if version not in (_CONVERTED, SCHEMA_VERSION):
        raise InputError(f"{path} has schema version {quote(version)} in {where}, and this Parapet reads versions "
                         f"{_CONVERTED} and {SCHEMA_VERSION}; use the Parapet that wrote it, or move the file away to "
                         "start a new archive.")


def in_todays_form(record: dict[str, Any]) -> dict[str, Any]:
    """The record in the form of the current schema version."""
    if record["schema_version"] == SCHEMA_VERSION:
        return record
    block = record.get("validation")
    return {**record, "schema_version": SCHEMA_VERSION, "validation": None if block is None else converted(block)}


def _old_version(line: bytes) -> int:
    """The schema version of a line in the format of versions up to 3, where the record is a string; else the current
    version."""
    try:
        version: int = loads(loads(line)["record"])["schema_version"]
        return version
    except (ValueError, KeyError, TypeError, AttributeError):
        return SCHEMA_VERSION


def _refuse_other_ends(path: Path, end: bytes) -> None:
    """Raise InputError where `end`, the bytes after the last complete line, is not the start of a line of an archive,
    so that `append` does not remove foreign data."""
    if not _START.startswith(end[:len(_START)].split(b"\0")[0]):
        raise InputError(f"{path} is damaged at its end: what stands there is no part of a record; {REMEDY}.")
