"""Follows a run on a cluster until it ends, also after lost connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from parapet.errors import WorkError
from pipelines.connection import Endpoint, Unavailable, asking

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_WORTH_TELLING = ("SUCCEEDED", "FAILED", "SKIPPED", "CACHED")


def follow(client: Any, endpoint: Endpoint, run_id: str, say: Callable[[str], None], *, interval: float = 10.0,
           patience: float = 600.0, longest: float | None = None) -> Any:
    """Report each task of run `run_id` that ends, until the run ends; returns the ended run.

    The server is asked every `interval` seconds, and at increasing intervals while it does not answer. Raises WorkError
    where it does not answer for `patience` seconds, and where the run takes longer than `longest` seconds; the run
    itself continues.
    """
    told: set[tuple[str, str]] = set()
    begun, away_since, pause = time.monotonic(), None, interval
    while True:
        try:
            with asking(endpoint):
                run = client.get_run(run_id)
        except Unavailable as error:
            now = time.monotonic()
            if away_since is None:
                away_since = now
                say(f"{error} The run goes on; asking again.")
            if now - away_since > patience:
                raise WorkError(f"{error} The run {run_id} goes on without being followed.") from None
            pause = min(2 * pause, 60.0)
        else:
            away_since, pause = None, interval
            for line in _news(run, told):
                say(line)
            if str(run.state) in ENDED:
                return run
        if longest is not None and time.monotonic() - begun > longest:
            raise WorkError(f"run {run_id} is not done after {longest:g} seconds; it goes on without being followed.")
        time.sleep(pause)


def failure(run: Any) -> str:
    """The name of the task that failed and the reason, as far as the API provides them."""
    details = (run.run_details.task_details if run.run_details else None) or []
    failed = [detail for detail in details if str(detail.state) == "FAILED"]
    # The task that started last is the innermost one: a loop fails because a task in it failed.
    failed.sort(key=lambda detail: str(detail.start_time or ""))
    reason = next((detail.error.message for detail in reversed(failed) if detail.error and detail.error.message), None)
    reason = reason or (run.error.message if run.error else None) or "no reason is given; see its log"
    return f"{failed[-1].display_name if failed else 'the run'}: {reason}"


def _news(run: Any, told: set[tuple[str, str]]) -> list[str]:
    lines = []
    details = (run.run_details.task_details if run.run_details else None) or []
    for detail in sorted(details, key=lambda each: str(each.end_time or "")):
        key, state = str(detail.task_id), str(detail.state)
        if state in _WORTH_TELLING and (key, state) not in told:
            told.add((key, state))
            lines.append(f"{detail.display_name}: {state.lower()}")
    return lines
