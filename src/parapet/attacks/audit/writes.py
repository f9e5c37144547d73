"""What a model does outside of its process while it answers: copies of it could share there what they were asked."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

# Events of Python's audit hooks (sys.addaudithook), and what they are called.
_EVENTS = {"socket.connect": "opens a connection", "socket.bind": "opens a connection",
           "sqlite3.connect": "opens a database", "subprocess.Popen": "starts a process",
           "os.posix_spawn": "starts a process", "os.system": "starts a process", "os.exec": "starts a process",
           "os.fork": "starts a process", "os.rename": "changes files", "os.remove": "changes files",
           "os.mkdir": "changes files", "os.symlink": "changes files", "os.link": "changes files",
           "os.truncate": "changes files", "shutil.copyfile": "changes files"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_COUNTS = Path("/proc/self/io")


def writes(act: Callable[[], object], *, counted: bool = True) -> str:
    """What `act` does to the world outside while it runs, in a few words ("writes to /tmp/x"); empty if nothing.

    What it prints is swallowed and no finding. Python's audit hooks see what Python opens; with `counted`, where the
    kernel counts what a process writes (Linux), bytes that other code writes are seen too. The hook cannot be taken off
    again, so this is for a process that ends soon.
    """
    seen: list[str] = []
    looking = True

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if looking and event == "open" and isinstance(given[2], int) and given[2] & _WRITING:
            seen.append(f"writes to {given[0]}" if isinstance(given[0], str) else "writes to a file")
        elif looking and event in _EVENTS:
            seen.append(_EVENTS[event])
    sys.addaudithook(hook)
    before = _written() if counted else None
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            act()
    finally:
        looking = False
    if seen:
        return seen[0]
    return "writes to a file" if before is not None and _written() != before else ""


def _written() -> int | None:
    """Bytes that this process has handed to the kernel for writing; None where that is not counted."""
    try:
        lines = _COUNTS.read_text().splitlines()
    except OSError:
        return None
    return int(dict(line.split(": ", 1) for line in lines)["wchar"])
