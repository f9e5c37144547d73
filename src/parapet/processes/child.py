"""Runs one task in a child process: if its native code crashes, `parapet` ends with a sentence and exit code 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from parapet.errors import Fault, WorkError
from parapet.processes.pool import Task, Workers


def supervised(task: Task, device: str, *, on_progress: Callable[[str, float], None],
               on_told: Callable[[dict[str, Any]], None] = lambda values: None) -> dict[str, Any]:
    """The result of `task` on `device`; `on_progress` gets (text, share) and `on_told` the values that it reports.

    The child ends when this process ends, for whatever reason. Raises InputError and WorkError as the task does,
    WorkError with one sentence if the child died or ran out of memory, and Fault for an unexpected exception.
    """
    with Workers([device], attempts=1, timeout=math.inf) as workers:
        [(_, outcome)] = workers.run([task], lambda _, text, share: on_progress(text, share),
                                     on_told=lambda _, values: on_told(values))
    if outcome.result is not None:
        return outcome.result
    reason = outcome.reason or ""
    if outcome.unexpected:
        raise Fault(reason, outcome.trace or "")
    error = WorkError(f"{reason.rstrip('.')}.")
    if outcome.trace:
        error.add_note(outcome.trace)  # --debug shows it
    raise error
