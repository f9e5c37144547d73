"""Functions that the workers of test_workers call: they succeed, fail and die in every way."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
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
