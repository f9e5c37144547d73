"""Describes how a process ended: the signal or exit code, and the end of its standard error."""

from __future__ import annotations

import signal

# The common reason of SIGKILL and of out-of-memory errors.
MEMORY = "out of memory"
_LINES, _LENGTH = 3, 300
_FATAL = "Fatal Python error:"


def reason(code: int) -> str:
    """A short reason for the end of a process with exit code `code` (negative for a signal), equal for equal causes.

    SIGKILL counts as out of memory, because the kernel sends it when memory runs out.
    """
    if code >= 0:
        return f"exit code {code}"
    return MEMORY if -code == signal.SIGKILL else signal_name(-code)


def told(code: int) -> str:
    """How a process with exit code `code` (negative for a signal) ended, for example "died by SIGSEGV"."""
    if code >= 0:
        return f"ended with exit code {code} and no result"
    hint = " (the kernel does so where memory runs out)" if -code == signal.SIGKILL else ""
    return f"died by {signal_name(-code)}{hint}"


def signal_name(number: int) -> str:
    """The name of a signal, for example SIGSEGV for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_words(text: str) -> str:
    """The last lines of `text`, the standard error of a process, joined to one line; empty where it wrote nothing.

    If Python wrote a traceback of a crash, these are the lines up to the error and the line of code that was running.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = next((place for place, line in enumerate(lines) if line.startswith(_FATAL)), None)
    if fatal is None:
        kept = lines[-_LINES:]
    else:
        where = next((line for line in lines[fatal:] if line.startswith("File ")), None)
        kept = [*lines[max(0, fatal + 1 - _LINES):fatal + 1], *filter(None, [where])]
    shown = " | ".join(kept)
    return shown if len(shown) <= _LENGTH else f"…{shown[1 - _LENGTH:]}"
