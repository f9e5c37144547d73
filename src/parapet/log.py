"""What happens, for whoever listens: events with a step and a candidate, through Python's `logging`.

The library tells and prints nothing; the command line decides who hears (`PARAPET_LOG=json`, `--debug`).
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
    """Tell that `text` happened in `step` to `candidate` (its id); `values` are JSON."""
    logger = logging.getLogger(NAME)
    if logger.hasHandlers():  # else Python prints errors by itself, secrets and all
        logger.log(level, "%s", text, extra={"step": step, "candidate": candidate, "values": values})


@contextmanager
def span(step: str, candidate: str | None = None) -> Iterator[None]:
    """Tell when a step begins, and when it is done; whoever meets its error tells of that."""
    started = time.monotonic()
    event("begun", step=step, candidate=candidate)
    yield
    event("done", step=step, candidate=candidate, seconds=round(time.monotonic() - started, 3))
