"""Sends the outbox to MLflow: a parent run per search, a child run per candidate, each exactly once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.tracking.address import shown, sqlite_path
from parapet.tracking.connection import (
    connect,
    holds_run,
    is_overload,
    is_refusal,
    sentence,
    target,
    unreachable,
)
from parapet.tracking.events import log_event
from parapet.tracking.runs import Runs, experiment_id, find_runs, root_run

if TYPE_CHECKING:
    from parapet.tracking.outbox import Outbox
    from parapet.tracking.queue import Event


Gate = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Flushed:
    """What a flush did: events sent, events still waiting and why, events refused for good, warnings for the user."""

    sent: int
    kept: int
    rejected: int = 0
    warnings: tuple[str, ...] = ()
    reason: str | None = None


def flush(outbox: Outbox, uri: str, experiment: str, artifact_root: Path | None = None,
          progress: Callable[[int, int], None] | None = None, *, parent_run_id: str | None = None,
          gate: Gate = nullcontext, stop: Callable[[], bool] = lambda: False) -> Flushed:
    """Send the events that wait in `outbox` to the MLflow at `uri`, in order, and remove each one that was sent.

    `artifact_root` is where a database without a server keeps artifacts (None for a server, which knows). With
    `parent_run_id` the search joins the tree of that run. `progress(done, of)` is called after each event,
    `gate()` is held around each, and no further event is begun once `stop()` is true. Never raises for anything that
    MLflow does: events that could not be sent are kept, with the reason as one sentence.
    """
    with outbox.queue.sending() as mine:
        if not mine:
            return Flushed(0, outbox.pending(), reason="Another process is sending these events to MLflow just now.")
        return _Flush(outbox, uri, experiment, artifact_root, parent_run_id).run(progress, gate, stop)


def run_ids(uri: str, experiment: str, search_id: str, parent_run_id: str | None = None) -> dict[str, Any] | None:
    """The ids of the runs of a search: `tracking_uri`, `experiment_id`, `parent_run_id` and `candidates` (run by
    candidate id). None where MLflow is away or knows nothing of the search."""
    path = sqlite_path(uri)
    if unreachable(uri) is not None or (path is not None and not path.is_file()):  # asking would make the file
        return None
    try:
        client = connect(uri)
        joined = root_run(client, parent_run_id) if parent_run_id else None
        found = joined.info.experiment_id if joined else experiment_id(client, experiment)
        if found is None:
            return None
        parents = find_runs(client, found, search_id, "search")
        if not parents:
            return None
        children = find_runs(client, found, search_id, "candidate")
        # Of several runs of a candidate the first one is written to; it comes last here and wins.
        return {"tracking_uri": shown(uri), "experiment_id": found, "parent_run_id": parents[0].info.run_id,
                "candidates": {run.data.tags["candidate"]: run.info.run_id for run in reversed(children)}}
    except Exception:  # MLflow raises many kinds, and a report without links is still a report
        return None


class _Flush:
    """One pass over the queue."""

    def __init__(self, outbox: Outbox, uri: str, experiment: str, artifact_root: Path | None,
                 parent_run_id: str | None) -> None:
        self.queue, self.uri = outbox.queue, uri
        self.target = target(uri, experiment)
        self.open: Callable[[], Runs] = lambda: Runs(connect(uri), experiment, artifact_root, parent_run_id)
        self.sent = self.rejected = 0
        self.warnings: list[str] = []
        self.reason: str | None = None

    def run(self, progress: Callable[[int, int], None] | None, gate: Gate,
            stop: Callable[[], bool]) -> Flushed:
        events, complaints = self.queue.events()
        self.warnings += complaints
        todo = [event for event in events if not self._sent_before(event)]
        if todo and not stop():
            self.reason = unreachable(self.uri)
            runs = None if self.reason else self._opened(gate)
            if runs is not None:
                self._send_all(runs, todo, progress, gate, stop)
                self.warnings += runs.warnings
        return Flushed(self.sent, len(todo) - self.sent - self.rejected, self.rejected,
                       tuple(dict.fromkeys(self.warnings)), self.reason)

    def _sent_before(self, event: Event) -> bool:
        run_id = self.queue.sent_run(event, self.target)
        if run_id is None or not holds_run(self.uri, run_id):
            return False
        self.queue.drop(event)
        return True

    def _opened(self, gate: Gate) -> Runs | None:
        try:
            with gate():
                return self.open()
        except Exception as error:  # whatever MLflow raises, the search goes on
            self.reason = unreachable(self.uri) or (f"MLflow at {shown(self.uri)} could not be used: "
                                                    f"{sentence(error)}")
            return None

    def _send_all(self, runs: Runs, todo: list[Event], progress: Callable[[int, int], None] | None,
                  gate: Gate, stop: Callable[[], bool]) -> None:
        failures = 0
        for done, event in enumerate(todo, start=1):
            if stop():
                return
            try:
                with gate():
                    self._send(runs, event)
                failures = 0
            except Exception as error:
                if is_refusal(error):
                    self.queue.reject(event, sentence(error))
                    self.rejected += 1
                    self.warnings.append(f"MLflow refused {_about(event)}, which lies in "
                                         f"{self.queue.folder / 'rejected'}: {sentence(error)}")
                else:
                    away = unreachable(self.uri)
                    self.reason = away or (f"MLflow at {shown(self.uri)} could not take {_about(event)}: "
                                           f"{sentence(error).rstrip('.')}.")
                    failures += 1
                    # One event that fails on a reachable server is skipped; two in a row mean that the server fails.
                    if away or is_overload(error) or failures == 2:
                        return
            if progress is not None:
                progress(done, len(todo))

    def _send(self, runs: Runs, event: Event) -> None:
        try:
            run_id = log_event(runs, event)
        except Exception as error:
            # An idle connection may be dropped during the first request: a reachable server gets a second try.
            if is_refusal(error) or is_overload(error) or unreachable(self.uri) is not None:
                raise
            run_id = log_event(runs, event)
        self.queue.mark_sent(event, self.target, run_id)
        self.sent += 1


def _about(event: Event) -> str:
    subject = event.key.split("+")[2:3]
    return f"the {event.kind} event of {f'candidate {subject[0]}' if subject else f'search {event.search_id}'}"

