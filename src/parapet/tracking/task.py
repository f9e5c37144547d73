"""Tracking from a task of a pipeline: an outbox that exists as long as the task and is sent before it ends."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parapet.tracking.mlflow_tracker import flush, run_ids
from parapet.tracking.null import NullTracker
from parapet.tracking.outbox import Outbox
from parapet.tracking.tracker import Tracker

# Seconds, enough for a server that restarts; a task that holds a GPU must not wait longer.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Task:
    """The events of `tracker` are sent to `uri`; `joined` is the run that Kubeflow opened for the task, if any."""

    tracker: Tracker
    uri: str | None
    experiment: str
    joined: str | None = None

    def runs(self, search_id: str) -> dict[str, Any] | None:
        """The ids of a search's runs as `run_ids` gives them; None without MLflow."""
        return run_ids(self.uri, self.experiment, search_id, self.joined) if self.uri else None

    def known(self, search_id: str) -> Collection[str]:
        """The candidates of a search that have a run already."""
        found = self.runs(search_id)
        return found["candidates"] if found else ()


@contextmanager
def tracked_task(environment: Mapping[str, str], *, enabled: bool, experiment: str,
                 tell: Callable[[str], None] = print, patience: float = _PATIENCE) -> Iterator[Task]:
    """A task whose events are sent when the block ends, even if it failed; a failing MLflow never fails the task.

    `environment` is the process's: MLFLOW_TRACKING_URI is the address, and without it nothing is tracked. If Kubeflow's
    own MLflow integration has opened a run for the task, MLFLOW_RUN_ID names it, and the search joins its tree. Events
    that are not sent after `patience` seconds are reported in a sentence.
    """
    uri = environment.get("MLFLOW_TRACKING_URI", "").strip()
    if not enabled or not uri:
        yield Task(NullTracker(), None, experiment)
        return
    joined = environment.get("MLFLOW_RUN_ID") or None
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder))
        try:
            yield Task(outbox, uri, experiment, joined)
        finally:
            _send(outbox, uri, experiment, joined, tell, time.monotonic() + patience)


def _send(outbox: Outbox, uri: str, experiment: str, joined: str | None, tell: Callable[[str], None],
          until: float) -> None:
    told: set[str] = set()
    while outbox.pending():
        sent = flush(outbox, uri, experiment, parent_run_id=joined)
        for warning in sent.warnings:
            if warning not in told:
                told.add(warning)
                tell(warning)
        if sent.kept and time.monotonic() > until:
            tell(f"{sent.kept} records did not reach MLflow ({sent.reason}) The task's own results are complete; run "
                 "it again to send them.")
            return
        if sent.kept:
            time.sleep(1.0)
