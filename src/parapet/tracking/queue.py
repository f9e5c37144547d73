"""The queue behind the outbox: an SQLite file of waiting and sent events, and `rejected/` for what cannot be sent.

The file keeps SQLite's rollback journal. A write-ahead log would be an obstacle: with one, a full disk prevents even
reading (SQLITE_IOERR_SHMSIZE, since its index is a file that is made first), and network file systems have none.
"""

from __future__ import annotations

import errno
import json
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from parapet.disk.files import read_json, write_json, write_text
from parapet.disk.plain_json import loads

# SQL, and the values of its question marks.
Statement = tuple[str, tuple[Any, ...]]

_TABLES: tuple[Statement, ...] = (
    ("CREATE TABLE IF NOT EXISTS waiting (place INTEGER PRIMARY KEY, key TEXT UNIQUE, digest, created, body BLOB)", ()),
    ("CREATE TABLE IF NOT EXISTS sent (key TEXT PRIMARY KEY, digest, target, run_id)", ()))
_INSERT = "INSERT INTO waiting (key, digest, created, body) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO "
# Of two values MLflow shows the one with the later time: a changed event is later even where the clock was set back.
_REPLACE = """UPDATE SET digest = excluded.digest, body = excluded.body, created =
    CASE digest WHEN excluded.digest THEN created ELSE max(excluded.created, created + 0.001) END
    WHERE (digest, body) != (excluded.digest, excluded.body)"""
# With its digest: an event that was changed while it was sent is still to be sent.
_DROP = "DELETE FROM waiting WHERE (place, digest) = (?, ?)"
# One file per event, as older versions of Parapet kept them.
_OLD_NAME = re.compile(r"\d{8}\+.+\+[0-9a-f]{16}\.json")
_UNREADABLE = (ValueError, KeyError, TypeError, OverflowError)
_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REFUSED = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EACCES,
            sqlite3.SQLITE_CANTOPEN: errno.EACCES}
# Seconds to wait for the transaction of another process, which takes milliseconds.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Event:
    """One event: its place in the queue, what it is about (`key`: kind+search+...), the digest of its content, its time
    (unix seconds) and content. Artifacts are relative to `folder`, the queue's."""

    folder: Path
    place: int
    key: str
    digest: str
    created: float
    body: dict[str, Any]

    def __post_init__(self) -> None:
        """TypeError for what cannot be an event."""
        if not (isinstance(self.key, str) and isinstance(self.digest, str) and isinstance(self.body, dict)
                and isinstance(self.created, int | float) and not isinstance(self.created, bool)):
            raise TypeError

    @property
    def kind(self) -> str:
        return self.key.split("+")[0]

    @property
    def search_id(self) -> str:
        return self.key.partition("+")[2].partition("+")[0]


class Queue:
    """The events that wait in `folder`, in the order of their places; several processes may use it at once.

    OSError where the disk is full or the folder may not be written. A damaged file is moved to `rejected/` and a new
    one begun, of which the next `events` tells.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "queue.db"
        self._complaints: list[str] = []

    def __len__(self) -> int:
        if not self.path.exists():  # counting creates nothing
            return len(self._old_paths())
        return int(self._run(("SELECT count(*) FROM waiting", ()))[0][0])

    def put(self, key: str, digest: str, body: dict[str, Any], *, behind: bool = False) -> None:
        """Add an event, or replace the waiting one with the same key.

        The same digest keeps its place and time; a changed event keeps its place unless `behind`.
        """
        last = ("UPDATE waiting SET place = (SELECT max(place) + 1 FROM waiting) WHERE key = ? AND digest != ?",
                (key, digest))
        self._run(*([last] if behind else []), (_INSERT + _REPLACE, (key, digest, time.time(), _bytes(body))))

    def events(self) -> tuple[list[Event], list[str]]:
        """The waiting events in order, and a sentence for each thing that could not be read (and was put aside)."""
        events = []
        for place, key, digest, created, body in self._run(
                ("SELECT place, key, digest, created, body FROM waiting ORDER BY place", ())):
            try:
                events.append(Event(self.folder, place, key, digest, created, loads(body)))
            except _UNREADABLE:
                aside = self._aside(f"event-{place}.txt", f"event {place} of {self.path.name}")
                write_text(aside, f"{(key, digest, created, body)!r}\n")
                self._run(("DELETE FROM waiting WHERE place = ?", (place,)))
        complaints, self._complaints = self._complaints, []
        return events, complaints

    def mark_sent(self, event: Event, target: str, run_id: str) -> None:
        """Remember that `event` lies in run `run_id` of `target`, and take it out of the queue."""
        self._run(("INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?)", (event.key, event.digest, target, run_id)),
                  (_DROP, (event.place, event.digest)))
        self._rejected(event).unlink(missing_ok=True)

    def sent_run(self, event: Event, target: str) -> str | None:
        """The run that holds exactly this event, if `target` is where it was sent last."""
        rows = self._run(("SELECT run_id FROM sent WHERE (key, digest, target) = (?, ?, ?)",
                          (event.key, event.digest, target)))
        return str(rows[0][0]) if rows else None

    def drop(self, event: Event) -> None:
        """Take an event out of the queue, unless it was changed since `events`."""
        self._run((_DROP, (event.place, event.digest)))

    def reject(self, event: Event, reason: str) -> None:
        """Put an event that the server refuses for good aside, with the reason."""
        write_json(self._rejected(event), {
            "schema_version": 1, "key": event.key, "digest": event.digest, "created": event.created,
            "kind": event.kind, "search_id": event.search_id, "body": event.body, "reason": reason})
        self.drop(event)

    def requeue(self) -> int:
        """Put every rejected event back into the queue; returns how many."""
        count = 0
        for path in sorted((self.folder / "rejected").glob("*.json")):
            with suppress(FileNotFoundError, *_UNREADABLE):
                event = self._read(path)
                self.put(event.key, event.digest, event.body)
                path.unlink()
                count += 1
        return count

    def forget(self) -> None:
        """Forget what was sent where, so that a repeated search sends everything again."""
        self._run(("DELETE FROM sent", ()))

    @contextmanager
    def sending(self, wait: float = 2.0) -> Iterator[bool]:
        """Hold the right to send: two senders at once could make two runs. Yields False if another one has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".sending.lock")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _run(self, *statements: Statement) -> list[Any]:
        """Execute SQL as one transaction, in a new file where this one is damaged; the rows of the last statement."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(sqlite3.DatabaseError):
            return self._transaction(statements)
        with FileLock(self.folder / ".damaged.lock"):
            with suppress(sqlite3.DatabaseError):  # another process has begun a new file meanwhile
                return self._transaction(statements)
            self.path.replace(self._aside(f"queue-{time.time_ns()}.db", self.path.name))
            return self._transaction(statements)

    def _transaction(self, statements: Sequence[Statement]) -> list[Any]:
        """Raises sqlite3.DatabaseError for a damaged file and OSError for what the machine refuses."""
        paths, old = self._old_events()
        imports = [(_INSERT + "NOTHING", (event.key, event.digest, event.created, _bytes(event.body))) for event in old]
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level="IMMEDIATE")) as database, \
                    database:
                for statement, values in [*_TABLES, *imports, *statements]:
                    rows = database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # no code: a text is no UTF-8
            if code in _DAMAGED:
                raise
            if code == sqlite3.SQLITE_CANTOPEN:  # SQLite does not say why, and the operating system does
                tempfile.TemporaryFile(dir=self.folder).close()
            raise OSError(_REFUSED.get(code, errno.EIO), str(error), str(self.path)) from error
        for path in paths:
            path.unlink(missing_ok=True)
        return rows

    def _old_paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if _OLD_NAME.fullmatch(path.name))

    def _old_events(self) -> tuple[list[Path], Iterable[Event]]:
        """What an older version left: the files, and their events in order; of two with one key the newer counts."""
        found: dict[str, Event] = {}
        paths = self._old_paths()
        for path in paths:
            with suppress(FileNotFoundError):  # another process has imported it
                try:
                    event = self._read(path)
                except _UNREADABLE:
                    path.replace(self._aside(path.name, path.name))
                    continue
                other = found.pop(event.key, event)
                found[event.key] = max(other, event, key=lambda each: each.created)
        return paths, found.values()

    def _read(self, path: Path) -> Event:
        content = read_json(path)
        created = content["created"]
        return Event(self.folder, 0, content["key"], content["digest"],
                     float(created) if type(created) is int else created, content["body"])

    def _rejected(self, event: Event) -> Path:
        return self.folder / "rejected" / f"{event.key}.json"

    def _aside(self, name: str, what: str) -> Path:
        """Where `what`, which cannot be read, is put; `events` tells of it."""
        aside = self.folder / "rejected" / name
        aside.parent.mkdir(exist_ok=True)
        self._complaints.append(f"{what} was not readable and lies in {aside}.")
        return aside


def _bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False).encode()
