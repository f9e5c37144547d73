"""The files behind the outbox: the queue itself, `sent/` (what went where) and `rejected/` (refused for good)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from parapet.files import read_json, write_json

# "+" joins the parts, because no id contains it; the number sorts, the digest tells changed content apart.
_LATER = 1e-3
_NAME = re.compile(r"(?P<number>\d{8})\+(?P<key>.+)\+(?P<digest>[0-9a-f]{16})\.json")


@dataclass(frozen=True)
class Event:
    """One thing to tell: its file, what it is about (`key`), the digest of its content, its time and content."""

    path: Path
    kind: str
    key: str
    digest: str
    search_id: str
    created: float
    body: dict[str, Any]


class Queue:
    """Events in `folder`, one JSON file each, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self._names())

    def put(self, key: str, digest: str, content: dict[str, Any], *, behind: bool = False) -> None:
        """Add an event, or replace the waiting one with the same key.

        The same digest keeps its place and time. A changed event takes a new file, so that a sender that is
        busy with the old one cannot take the new one for sent; it keeps its place unless `behind`.
        """
        waiting = [(path, name) for path, name in self._names() if name["key"] == key]
        created, before = time.time(), None
        path = next((path for path, name in waiting if name["digest"] == digest[:16]), None)
        if path is not None:
            before = self._read(path)
            created = before.created if before else created
        else:
            place = int(waiting[0][1]["number"]) if waiting and not behind else self._next_number()
            # The later one counts where a kill leaves both, also when the clock was set back between them.
            created = max([created, *(event.created + _LATER for old, _ in waiting if (event := self._known(old)))])
            path = self.folder / f"{place:08d}+{key}+{digest[:16]}.json"
        if before is None or before.body != content["body"]:
            self._write(path, key, digest, created, content)
        for stale, _ in waiting:
            if stale != path:
                stale.unlink(missing_ok=True)

    def events(self) -> tuple[list[Event], list[str]]:
        """The waiting events in order, and a sentence for each file that could not be read (and was moved)."""
        events: dict[str, Event] = {}
        complaints = []
        for path, _ in self._names():
            try:
                event = self._read(path)
            except (ValueError, KeyError, TypeError):
                complaints.append(f"{path.name} was not readable and lies in {self._move_aside(path)}.")
                continue
            if event is None:
                continue
            other = events.pop(event.key, None)
            if other is not None:
                # A kill between writing a changed event and removing the old one leaves both: the newer counts.
                older, event = sorted((other, event), key=lambda each: each.created)
                older.path.unlink(missing_ok=True)
            events[event.key] = event
        return list(events.values()), complaints

    def mark_sent(self, event: Event, target: str, run_id: str) -> None:
        """Remember that `event` lies in run `run_id` of `target`, and take it out of the queue."""
        write_json(self.folder / "sent" / f"{event.key}.json",
                   {"digest": event.digest, "target": target, "run_id": run_id})
        (self.folder / "rejected" / f"{event.key}.json").unlink(missing_ok=True)
        self.drop(event)

    def sent_run(self, event: Event, target: str) -> str | None:
        """The run that holds exactly this event, if `target` is where it was sent last."""
        try:
            memory = read_json(self.folder / "sent" / f"{event.key}.json")
            return memory["run_id"] if (memory["digest"], memory["target"]) == (event.digest, target) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def drop(self, event: Event) -> None:
        """Take an event out of the queue."""
        event.path.unlink(missing_ok=True)

    def reject(self, event: Event, reason: str) -> None:
        """Put an event that the server refuses for good aside, with the reason."""
        content = {"kind": event.kind, "search_id": event.search_id, "body": event.body, "reason": reason}
        self._write(self.folder / "rejected" / f"{event.key}.json", event.key, event.digest, event.created, content)
        self.drop(event)

    def requeue(self) -> int:
        """Put every rejected event back into the queue; says how many."""
        count = 0
        for path in sorted((self.folder / "rejected").glob("*.json")):
            try:
                event = self._read(path)
            except (ValueError, KeyError, TypeError):
                continue
            if event is not None:
                self.put(event.key, event.digest,
                         {"kind": event.kind, "search_id": event.search_id, "body": event.body})
                path.unlink(missing_ok=True)
                count += 1
        return count

    def forget(self) -> None:
        """Forget what was sent where, so that a repeated search sends everything again."""
        for path in (self.folder / "sent").glob("*.json"):
            path.unlink(missing_ok=True)

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

    def _names(self) -> list[tuple[Path, re.Match[str]]]:
        return sorted(((path, match) for path in self.folder.glob("*.json") if (match := _NAME.fullmatch(path.name))),
                      key=lambda pair: pair[0].name)

    def _next_number(self) -> int:
        names = self._names()
        return int(names[-1][1]["number"]) + 1 if names else 1

    def _read(self, path: Path) -> Event | None:
        try:
            content = read_json(path)
        except FileNotFoundError:  # replaced or sent since the folder was listed
            return None
        kind, key, digest, search_id = (content[name] for name in ("kind", "key", "digest", "search_id"))
        created, body = content["created"], content["body"]
        if not all(isinstance(text, str) for text in (kind, key, digest, search_id)) or isinstance(created, bool):
            raise TypeError
        return Event(path, kind, key, digest, search_id, float(created), dict(body))

    def _write(self, path: Path, key: str, digest: str, created: float, content: dict[str, Any]) -> None:
        write_json(path, {"schema_version": 1, "key": key, "digest": digest, "created": created} | content)

    def _known(self, path: Path) -> Event | None:
        """A waiting event, None where it cannot be read: `events` moves such a file aside."""
        try:
            return self._read(path)
        except (ValueError, KeyError, TypeError):
            return None

    def _move_aside(self, path: Path) -> Path:
        aside = self.folder / "rejected"
        aside.mkdir(exist_ok=True)
        return path.replace(aside / path.name)
