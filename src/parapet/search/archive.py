"""The archive: an append-only journal of every candidate ever measured, one JSON line and checksum each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from parapet.errors import InputError

SCHEMA_VERSION = 3


def append(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add records at the end and flush them to disk; a torn last line is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(_line(record) for record in records)
    if not lines:
        return
    whole = _whole_bytes(path)
    with path.open("r+b" if path.exists() else "wb") as stream:
        stream.truncate(whole)
        stream.seek(whole)
        stream.write(lines)
        stream.flush()
        os.fsync(stream.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """All records, in order; none where the file does not exist.

    A torn last record is dropped. Raises InputError where a record in the middle is damaged or of another
    schema version: nothing is overwritten.
    """
    if not path.exists():
        return []
    records = []
    lines = path.read_bytes()[:_whole_bytes(path)].splitlines()
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            raise InputError(f"{path} is damaged in line {number}: its checksum does not fit; restore the file, or "
                             "move it away to start a new archive.")
        if record.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{path} has schema version {record.get('schema_version')} in line {number}, and this "
                             f"Parapet reads version {SCHEMA_VERSION}; use the Parapet that wrote it.")
        records.append(record)
    return records


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "record": text}).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        text = entry["record"]
        if hashlib.sha256(text.encode()).hexdigest() != entry["sha256"]:
            return None
        return json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _whole_bytes(path: Path) -> int:
    """Length of the journal without a torn last line."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end == len(content) and end > 0:
        start = content.rfind(b"\n", 0, end - 1) + 1
        return end if _parse(content[start:end]) is not None else start
    return end
