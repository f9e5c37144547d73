"""Handlers of log events: JSON lines for programs, readable lines for --debug, the last events for a crash report.

PARAPET_LOG=json writes one JSON line an event to standard error, or to the end of the file PARAPET_LOG_FILE, so that
standard output stays for people. PARAPET_DEBUG=1 is --debug.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TextIO

from parapet import log
from parapet.errors import InputError
from parapet.quoting import quote
from parapet.redaction import redacted, redacted_values

_LAST = 60
_OWN = ("time", "level", "step", "candidate", "event", "pid")
_OFF = ("", "0", "false", "no", "off")


def debugging(environment: Mapping[str, str]) -> bool:
    """Whether PARAPET_DEBUG asks for tracebacks."""
    return environment.get("PARAPET_DEBUG", "").lower() not in _OFF


@contextmanager
def listening(environment: Mapping[str, str], *, debug: bool) -> Iterator[deque[str]]:
    """Add the handlers that `environment` asks for inside the block; yields the last events as JSON lines.

    Raises InputError for a PARAPET_LOG that is not known and a PARAPET_LOG_FILE that cannot be written.
    """
    last: deque[str] = deque(maxlen=_LAST)
    handlers: list[logging.Handler] = [_LastEvents(last)]
    if (json_lines := _json_lines(environment)) is not None:
        handlers.append(json_lines)
    for handler in handlers:
        handler.setLevel(logging.DEBUG if debug else logging.INFO)
    if debug:
        handlers.append(_DebugLines())
    logger = logging.getLogger(log.NAME)
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield last
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]


def as_json(record: logging.LogRecord) -> str:
    """One line: time (ISO 8601, UTC), level, step, candidate (null where there is none), event, pid, and its values."""
    values = redacted_values(getattr(record, "values", None) or {})
    return json.dumps({
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(), "step": getattr(record, "step", None),
        "candidate": getattr(record, "candidate", None), "event": redacted(record.getMessage()), "pid": os.getpid(),
        **{name: value for name, value in values.items() if name not in _OWN}})


def _json_lines(environment: Mapping[str, str]) -> logging.Handler | None:
    kind, place = environment.get("PARAPET_LOG", ""), environment.get("PARAPET_LOG_FILE", "")
    if kind.lower() in _OFF:
        if place:
            raise InputError("PARAPET_LOG_FILE is given, and PARAPET_LOG is not; set PARAPET_LOG=json too.")
        return None
    if kind.lower() != "json":
        raise InputError(f"PARAPET_LOG is {quote(kind)}; allowed is json, or leave it out.")
    if not place:
        return _Lines(sys.stderr)
    try:
        return _Lines(_appending(place), owned=True)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise InputError(f"PARAPET_LOG_FILE is {redacted(place)}, a pipe that nobody reads; start what reads it "
                             "first, or name a file.") from None
        raise InputError(f"PARAPET_LOG_FILE is {redacted(place)}, which cannot be written ({error.strerror}); name "
                         "another file.") from None


def _appending(place: str) -> TextIO:
    """The file, opened for appending. Raises OSError for a pipe without a reader instead of waiting for one."""
    descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "a", encoding="utf-8")


class _Lines(logging.StreamHandler[TextIO]):
    """JSON lines on a stream. If the stream can no longer be written, the work goes on without it."""

    def __init__(self, stream: TextIO, *, owned: bool = False) -> None:
        super().__init__(stream)
        self._owned = owned

    def format(self, record: logging.LogRecord) -> str:
        """The line of an event."""
        return as_json(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say nothing."""

    def close(self) -> None:
        """Close the file that was opened for it."""
        if self._owned:
            with suppress(OSError):
                self.stream.close()
        super().close()


class _DebugLines(logging.StreamHandler[TextIO]):
    """Readable lines on standard error for --debug."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def format(self, record: logging.LogRecord) -> str:
        """For example `debug  training 0123456789ab: begun`."""
        where = " ".join(filter(None, [getattr(record, "step", None), getattr(record, "candidate", None)]))
        return f"debug  {where}{': ' if where else ''}{redacted(record.getMessage())}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say nothing."""


class _LastEvents(logging.Handler):
    """Keeps the last events as JSON lines."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        self._lines.append(as_json(record))
