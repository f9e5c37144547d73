"""The archive: an append-only journal of every candidate ever measured, one JSON line each.

A line is `{"after":A,"sha256":S,"record":{...}}`: A is the S of the line before (zeros in the first line), and S the
SHA-256 of A and the record's text. A record that was changed does not fit its S, and a line that was taken out, put in
or moved does not fit the A of the next one. That the newest lines are missing cannot be seen.
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
# The version whose records are read too.
_CONVERTED = 4
_START = b'{"after":"'
_LINE = re.compile(rb'\{"after":"([0-9a-f]{64})","sha256":"([0-9a-f]{64})","record":(\{.*\})\}')
_BEFORE_THE_FIRST = b"0" * 64
# Keys are in the order of the alphabet, and text inside has its quotation marks escaped.
_ID, _LOOKS, _VERSION = b',"id":"', b',"looks":', b',"schema_version":'
_VERSIONS = tuple(b"%d" % version for version in (_CONVERTED, SCHEMA_VERSION))
# Where the record begins in its line.
_HEAD = len(b'{"after":"","sha256":"","record":') + 2 * len(_BEFORE_THE_FIRST)
_BLOCK = 1 << 16
REMEDY = "restore the file, or move it away to start a new archive"


def append(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add records at the end and flush them to disk; a torn last line is cut off first.

    Reads the end of the file alone. Raises InputError where the last line is damaged or of another schema version:
    then nothing is written.
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

    A torn last line is dropped. Raises InputError where another line was changed, moved, taken out or put in, or is of
    another schema version: nothing is overwritten.
    """
    return [_record(path, f"line {number}", text) for number, _, text in _texts(path)]


def stream(path: Path) -> Iterator[dict[str, Any]]:
    """The same one by one, for those who keep a part of each: a hundred thousand records take a gigabyte.

    Numbers are not looked at one by one: `read` and `at` do that.
    """
    for number, _, text in _texts(path):
        try:
            # The checksum holds, so that this is what was written; to look for every oddity takes five times as long.
            record = json.loads(text, parse_constant=_refused)
        except (ValueError, RecursionError):
            record = None
        if record is None or record.get("schema_version") != SCHEMA_VERSION:
            record = _record(path, f"line {number}", text)
        yield record


class Place(NamedTuple):
    """Where a record stands in its file: bytes from `start`, `length` of them. Of its content `id` and `looks`."""

    id: str
    looks: int
    start: int
    length: int


def places(path: Path) -> list[Place]:
    """Where every record stands, after all checksums hold: `at` reads some of them, when only those are wanted.

    Raises what `read` raises, but for text that is no JSON under the right checksum: that is found when it is read.
    """
    found = []
    for number, start, text in _texts(path):
        name, looks = _indexed(text) or _named(path, f"line {number}", text)
        found.append(Place(name, looks, start, len(text)))
    return found


def at(path: Path, wanted: Sequence[Place]) -> list[dict[str, Any]]:
    """The records at these places of the file, in their order."""
    if not wanted:
        return []
    with path.open("rb") as opened:
        records = []
        for place in wanted:
            opened.seek(place.start)
            records.append(_record(path, f"the record {place.id}", opened.read(place.length)))
    return records


def latest_places(found: Iterable[Place]) -> list[tuple[Place, Place]]:
    """(the first, the one that counts) of each candidate, as `latest` has them."""
    first: dict[str, Place] = {}
    best: dict[str, Place] = {}
    for place in found:
        first.setdefault(place.id, place)
        if place.id not in best or place.looks > best[place.id].looks:
            best[place.id] = place
    return [(place, best[name]) for name, place in first.items()]


def latest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is known of each candidate now: of several records with one id the one with most `looks`.

    It stands where the first of them stood, and is of its generation; of equally many looks the first is kept.
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
    """How many bytes behind the last whole line are dropped by `read`; 0 where the journal ends well."""
    content = path.read_bytes()
    return len(content) - _whole(content)


def _line(record: dict[str, Any], before: bytes) -> tuple[bytes, bytes]:
    """A record's line and its checksum, which the next line carries."""
    text = json.dumps(record, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    checksum = _checksum(before, text)
    return b'{"after":"%b","sha256":"%b","record":%b}\n' % (before, checksum, text), checksum


def _checksum(before: bytes, text: bytes) -> bytes:
    return hashlib.sha256(before + text).hexdigest().encode()


def at_places(path: Path, pairs: Sequence[tuple[Place, Place]]) -> list[dict[str, Any]]:
    """The records of candidates by what `latest_places` says of them, in their order."""
    first, best = (at(path, [pair[side] for pair in pairs]) for side in (0, 1))
    return [{**record, "generation": begun["generation"]} for begun, record in zip(first, best)]


def _texts(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number of the line, place of its first byte, the record as text) of every whole line, verified; one at a time.

    A torn last line is left out.
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
        # From here on the end may be torn.
        tail = line + opened.read()
    whole = _whole(tail)
    for line in tail[:whole].split(b"\n")[:-1]:
        number += 1
        text, before = _checked(path, f"line {number}", line, before)
        yield number, place + _HEAD, text
        place += len(line) + 1
    _refuse_other_ends(path, tail[whole:])


def _checked(path: Path, where: str, line: bytes, before: bytes | None) -> tuple[bytes, bytes]:
    """The record's text and its checksum; `before` is that of the line before, None where it is not known."""
    match = _LINE.fullmatch(line)
    if match is None:
        _refuse_other_versions(path, where, _old_version(line))
    if match is None or _checksum(match[1], match[3]) != match[2]:
        raise InputError(f"{path} is damaged in {where}: its checksum does not fit; {REMEDY}.")
    if before is not None and match[1] != before:
        raise InputError(f"{path} is damaged in {where}: it does not follow on the line before it, so lines were taken "
                         f"out, put in or moved; {REMEDY}.")
    return match[3], match[2]


def _record(path: Path, where: str, text: bytes) -> dict[str, Any]:
    """The record that a text is, in today's form."""
    try:
        record = loads(text)
    except NotPlain as error:
        raise InputError(f"{path} is damaged in {where}: its record is no JSON that can be read ({error}); {REMEDY}."
                         ) from None
    _refuse_other_versions(path, where, record.get("schema_version"))
    try:
        return _today(record)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged in {where}: its record has another form than its schema version says; "
                         f"{REMEDY}.") from None


def _refused(text: str) -> None:
    raise ValueError(text)


def _indexed(text: bytes) -> tuple[str, int] | None:
    """The record's id and looks, found without reading the rest; None where they are not where they should be."""
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
    """The same, from the whole record."""
    record = _record(path, where, text)
    name, looks = record.get("id"), record.get("looks")
    if type(name) is not str or type(looks) is not int:
        raise InputError(f"{path} is damaged in {where}: its record has no id and looks; {REMEDY}.")
    return name, looks


def _end(path: Path, stream: BinaryIO) -> tuple[int, bytes]:
    """Length of the journal without a torn last line, and the checksum of its last whole line."""
    size, block, start, whole, tail = stream.seek(0, os.SEEK_END), _BLOCK, -1, 0, b""
    while start != 0 and not whole:
        start, block = max(0, size - block), 2 * block
        stream.seek(start)
        tail = stream.read()
        if start:
            # What stands before the first newline is the end of a line that began earlier.
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
    """How many bytes of `content`, which begins with a line, are whole lines: a torn last one is not among them.

    An append that was cut short leaves no newline, or zeros where the disk had not got its bytes.
    """
    end = content.rfind(b"\n") + 1
    while end and b"\0" in content[(start := content.rfind(b"\n", 0, end - 1) + 1):end]:
        end = start
    return end


def _refuse_other_versions(path: Path, where: str, version: Any) -> None:
    if version not in (_CONVERTED, SCHEMA_VERSION):
        raise InputError(f"{path} has schema version {quote(version)} in {where}, and this Parapet reads versions "
                         f"{_CONVERTED} and {SCHEMA_VERSION}; use the Parapet that wrote it, or move the file away to "
                         "start a new archive.")


def _today(record: dict[str, Any]) -> dict[str, Any]:
    """A record in today's form."""
    if record["schema_version"] == SCHEMA_VERSION:
        return record
    block = record.get("validation")
    return {**record, "schema_version": SCHEMA_VERSION, "validation": None if block is None else converted(block)}


def _old_version(line: bytes) -> int:
    """The schema version of a line as versions up to 3 wrote it, with the record as text; else this version."""
    try:
        version: int = loads(loads(line)["record"])["schema_version"]
        return version
    except (ValueError, KeyError, TypeError, AttributeError):
        return SCHEMA_VERSION


def _refuse_other_ends(path: Path, end: bytes) -> None:
    """`end` stands behind the last whole line and will be cut off: not where it is no part of a line of a journal."""
    if not _START.startswith(end[:len(_START)].split(b"\0")[0]):
        raise InputError(f"{path} is damaged at its end: what stands there is no part of a record; {REMEDY}.")
