"""Functions that the workers of test_workers call: they succeed, fail and die in every way."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from parapet.errors import InputError

Report = Callable[[str, float], None]


def double(*, value: int, device: str, progress: Report) -> dict:
    """Works, and says how far it is."""
    progress("doubling", 0.5)
    print("a print must not garble the protocol")
    return {"value": 2 * value, "device": device, "pid": os.getpid()}


def die_until(*, marker: str, times: int, device: str, progress: Report) -> dict:
    """Killed `times` times, then works."""
    path = Path(marker)
    count = int(path.read_text()) if path.exists() else 0
    if count < times:
        path.write_text(str(count + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return {"deaths": count}


def leave_a_child_and_die(*, marker: str, device: str, progress: Report) -> dict:
    """Killed, with a child that holds the pipes for ten minutes."""
    if (child := os.fork()) == 0:
        time.sleep(600)
        os._exit(0)
    Path(marker).write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def sleep_and_die_until(*, seconds: float, **others: object) -> dict:
    """Takes its time each time."""
    time.sleep(seconds)
    return die_until(**others)


def raise_value_error(*, device: str, progress: Report) -> dict:
    """A bug, or numbers gone bad."""
    raise ValueError("numbers gone bad")


def raise_input_error(*, device: str, progress: Report) -> dict:
    """Wrong for every task."""
    raise InputError("the data set is missing")


def fill_the_disk(*, device: str, progress: Report) -> dict:
    """As the operating system says it."""
    raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")


def be_locked_out(*, device: str, progress: Report) -> dict:
    """As the operating system says it of a folder that somebody else may write."""
    raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/file")


def sleep(*, seconds: float, device: str, progress: Report) -> dict:
    """Takes its time."""
    time.sleep(seconds)
    return {}


def lack_memory(*, kind: str, marker: str, times: int, device: str, progress: Report) -> dict:
    """Out of memory `times` times, torch's or Python's; then works."""
    if _count(marker) > times:
        return {"pid": os.getpid()}
    if kind == "python":
        raise MemoryError
    import torch

    return {"bytes": len(torch.empty(1 << 55))}


def crash(*, number: int, said: str, device: str, progress: Report) -> dict:
    """Native code that writes a line and dies by a signal."""
    from parapet import log

    log.event("training begins", step="training")
    os.write(2, said.encode())
    os.kill(os.getpid(), number)
    time.sleep(60)
    return {}


def crash_in_native_code(*, device: str, progress: Report) -> dict:
    """A real access to memory that is not there."""
    import ctypes

    os.write(2, b"about to read\n")
    return {"value": ctypes.string_at(0)}


def flood(*, device: str, progress: Report) -> dict:
    """More on standard error than any pipe holds."""
    for _ in range(3000):
        os.write(2, b"x" * 99 + b"\n")
    os.write(2, b"the end\n")
    os.abort()


def note_neighbours(*, marker: str, name: str, times: int, seconds: float, device: str, progress: Report) -> dict:
    """Writes down when it was at work, as which process, beside which others; dies the first `times` times."""
    count = _count(f"{marker}-{name}")
    begun = time.monotonic()
    import psutil

    # Other tests may have left children of their own, a server of forks for example.
    beside = []
    for process in psutil.Process(os.getppid()).children():
        with suppress(psutil.Error):  # it has just died
            if process.pid != os.getpid() and "parapet.processes.worker" in process.cmdline():
                beside.append(process.pid)
    time.sleep(seconds)
    with Path(marker).open("a") as stream:
        stream.write(json.dumps([name, count, os.getpid(), begun, time.monotonic(), beside]) + "\n")
    if count <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _count(marker: str) -> int:
    """How often this was called with `marker`."""
    path = Path(marker)
    count = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(count))
    return count


def say(*, text: str, device: str, progress: Report) -> dict:
    """Fails with `text`."""
    raise RuntimeError(text)
