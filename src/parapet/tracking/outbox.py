"""The outbox: events for MLflow, kept on disk until they have been sent.

The search writes here and never waits for a server; `flush` and `BackgroundSender` empty it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parapet.disk.files import digest, file_digest
from parapet.errors import InputError
from parapet.quoting import quote
from parapet.redaction import redacted_values
from parapet.tracking.queue import Queue
from parapet.tracking.values import plain

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")

Files = Mapping[str, Path | str]


class Outbox:
    """The events in `folder`, in order. Adding the same event again changes nothing.

    `notify` is called after each event that was added; `BackgroundSender` sets it to its own `wake`.
    """

    def __init__(self, folder: Path, notify: Callable[[], None] | None = None) -> None:
        self.queue = Queue(folder.resolve())
        self.notify = notify
        # The search of the latest event `search`, to whose run system metrics belong.
        self.current: str | None = None

    def search(self, search_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any],
               dataset: Mapping[str, Any]) -> None:
        """A search began. `params` may be nested; `dataset` has `name`, `digest` (or `fingerprint`), `source` and
        anything else worth keeping."""
        self._add("search", search_id, {"name": name, "params": params, "tags": tags, "dataset": dataset})
        self.current = search_id

    def candidate(self, search_id: str, record: Mapping[str, Any], curves: Sequence[Mapping[str, Any]],
                  artifacts: Files, tags: Mapping[str, Any]) -> None:
        """A candidate is done, well or badly.

        `record` is its line of the archive; `curves` has one dict per epoch with `epoch`, `time` (unix seconds)
        and numbers; `artifacts` are the files or folders to keep, by the name of the folder they get in the run.
        """
        self._add("candidate", search_id, {"record": record, "curves": curves, "tags": tags}, artifacts,
                  about=(str(record["id"]),))

    def front(self, search_id: str, ids: Sequence[str]) -> None:
        """Which candidates are on the front now; every other one of the search is not."""
        self._add("front", search_id, {"ids": sorted(ids)})

    def evaluation(self, search_id: str, candidate_id: str, metrics: Mapping[str, Any], artifacts: Files,
                   name: str = "evaluation") -> None:
        """Further measurements of a candidate; `name` tells several kinds of evaluation apart."""
        self._add("evaluation", search_id, {"id": candidate_id, "metrics": metrics}, artifacts,
                  about=(candidate_id, name))

    def finish(self, search_id: str, metrics: Mapping[str, Any], artifacts: Files,
               curves: Sequence[Mapping[str, Any]] = (), status: str = "FINISHED") -> None:
        """A search ended: FINISHED, FAILED or KILLED. `curves` has one dict per `generation`, with its `time`."""
        self._add("finish", search_id, {"metrics": metrics, "curves": curves, "status": status}, artifacts)

    def system(self, search_id: str, samples: Sequence[Mapping[str, float]]) -> None:
        """System metrics: each sample has `time` (unix seconds) and numbers by name."""
        self._add("system", search_id, {"samples": samples}, about=(f"{samples[0]['time']:.0f}",))

    def pending(self) -> int:
        """How many events wait."""
        return len(self.queue)

    def requeue(self) -> int:
        """Put events that the server rejected back into the queue; returns how many."""
        return self.queue.requeue()

    def forget(self) -> None:
        """Forget what was sent, so that repeating a search sends everything again (for a server that lost it)."""
        self.queue.forget()

    def _add(self, kind: str, search_id: str, body: Mapping[str, Any], artifacts: Files | None = None,
             about: tuple[str, ...] = ()) -> None:
        for name in (search_id, *about):
            if not _NAME.fullmatch(name):
                raise InputError(f"{quote(name)} cannot be a name in tracking; use up to 60 letters, digits, '.', '_' "
                                 "and '-', beginning with a letter or digit.")
        files = {name: Path(path).resolve() for name, path in (artifacts or {}).items()}
        content = redacted_values(plain(body))
        # The bytes of the artifacts count, not their paths: a cache may move.
        mark = digest({"kind": kind, "search_id": search_id, "body": content,
                       "artifacts": {name: _fingerprint(path) for name, path in files.items()}})
        # Relative to the queue, so that a project which is moved or copied sends its own.
        content["artifacts"] = {name: os.path.relpath(path, self.queue.folder) for name, path in files.items()}
        # A changed front concerns every candidate so far, so it goes behind those that still wait.
        self.queue.put("+".join((kind, search_id, *about)), mark, content, behind=kind == "front")
        if self.notify is not None:
            self.notify()


def _fingerprint(path: Path) -> str | None:
    if path.is_dir():
        return digest({str(file.relative_to(path)): file_digest(file)
                       for file in sorted(path.rglob("*")) if file.is_file()})
    return file_digest(path) if path.is_file() else None
