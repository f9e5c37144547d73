"""How a process ended, in words: the signal, and what it said last."""

from __future__ import annotations

import signal

# The reason that SIGKILL and errors for want of memory share.
MEMORY = "out of memory"
_LINES, _LENGTH = 3, 300
_FATAL = "Fatal Python error:"


def reason(code: int) -> str:
    """The death of a process with the exit code `code` (negative for a signal), short and the same for the same kind.

    SIGKILL is taken for want of memory: it is what the kernel does then.
    """
    if code >= 0:
        return f"exit code {code}"
    return MEMORY if -code == signal.SIGKILL else signal_name(-code)


def told(code: int) -> str:
    """For example "died by SIGSEGV"."""
    if code >= 0:
        return f"ended with exit code {code} and no result"
    hint = " (the kernel does so where memory runs out)" if -code == signal.SIGKILL else ""
    return f"died by {signal_name(-code)}{hint}"


def signal_name(number: int) -> str:
    """11 as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_words(text: str) -> str:
    """The last lines of what a process wrote to its standard error, in one line; empty where it wrote nothing.

    Of a traceback that Python leaves at a crash the line that was being run is told, and what stood before it.
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
