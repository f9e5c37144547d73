"""Detects side effects of a model outside its process: through them copies of it could share what they were asked."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

# Events of Python's audit hooks (sys.addaudithook), and how a report names them.
_EVENTS = {"socket.connect": "opens a connection", "socket.bind": "opens a connection",
           "sqlite3.connect": "opens a database",
           **dict.fromkeys(("subprocess.Popen", "os.posix_spawn", "os.system", "os.exec", "os.fork"),
                           "starts a process"),
           **dict.fromkeys(("os.rename", "os.remove", "os.mkdir", "os.symlink", "os.link", "os.truncate",
                            "shutil.copyfile"), "changes files")}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_COUNTS = Path("/proc/self/io")


def side_effect_of(act: Callable[[], object], *, counted: bool = True) -> str:
    """The first side effect of `act` outside this process, in a few words ("writes to /tmp/x"); empty if none.

    What `act` prints is discarded and is not a side effect. Python's audit hooks see what Python opens; with `counted`,
    on Linux, the kernel's count of written bytes also reveals writes by native code. An audit hook cannot be removed,
    so call this only in a process that ends soon.
    """
    seen: list[str] = []
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            seen.append(f"writes to {arguments[0]}" if isinstance(arguments[0], str) else "writes to a file")
        elif active and event in _EVENTS:
            seen.append(_EVENTS[event])
    sys.addaudithook(hook)
    before = _written_bytes() if counted else None
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            act()
    finally:
        active = False
    if seen:
        return seen[0]
    return "writes to a file" if before is not None and _written_bytes() != before else ""


def _written_bytes() -> int | None:
    """Bytes that this process has passed to write calls; None where the kernel does not count them."""
    try:
        lines = _COUNTS.read_text().splitlines()
    except OSError:
        return None
    return int(dict(line.split(": ", 1) for line in lines)["wchar"])
