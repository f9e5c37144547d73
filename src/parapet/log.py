"""Log events with a step and a candidate, through Python's `logging`.

The library logs and does not print; the command line adds the handlers (`PARAPET_LOG=json`, `--debug`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAME = "parapet"


def event(text: str, *, step: str | None = None, candidate: str | None = None, level: int = logging.INFO,
          **values: Any) -> None:
    """Log that `text` happened in `step` to `candidate` (its id); `values` are JSON."""
    logger = logging.getLogger(NAME)
    if logger.hasHandlers():  # otherwise Python itself prints errors, with their secrets
        logger.log(level, "%s", text, extra={"step": step, "candidate": candidate, "values": values})


@contextmanager
def span(step: str, candidate: str | None = None) -> Iterator[None]:
    """Log that a step begins, and that it is done; an error is logged where it is handled."""
    started = time.monotonic()
    event("begun", step=step, candidate=candidate)
    yield
    event("done", step=step, candidate=candidate, seconds=round(time.monotonic() - started, 3))
