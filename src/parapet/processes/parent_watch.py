"""A process ends when nobody waits for it any more: the one watcher of parents, for whoever is started by another.

The worker needs none: the parent holds the other end of its standard input, which the kernel closes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_LOOK_EVERY = 0.5


def end_when(is_over: Callable[[], bool], end: Callable[[], None] = lambda: os._exit(1)) -> None:
    """Call `end`, which ends this process, as soon as `is_over` is true; it is asked twice a second."""
    def watch() -> None:
        while not is_over():
            time.sleep(_LOOK_EVERY)
        end()
    threading.Thread(target=watch, daemon=True).start()


def is_alive(process: psutil.Process) -> bool:
    """Whether it is still running; one that ended and was not waited for is not."""
    try:
        alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return alive
    except psutil.Error:
        return False


def has_ended(pid: int) -> Callable[[], bool]:
    """Whether the process `pid`, which exists or has just ended, is over."""
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return lambda: True
    return lambda: not is_alive(process)


def is_silent(heartbeat: Path, longest: float) -> Callable[[], bool]:
    """Whether the time of the file `heartbeat` has not changed for `longest` seconds.

    Only changes count, because the clocks of two machines differ.
    """
    seen: int | None = None
    changed = time.monotonic()

    def is_over() -> bool:
        nonlocal seen, changed
        try:
            now: int | None = heartbeat.stat().st_mtime_ns
        except OSError:
            now = seen
        if now != seen:
            seen, changed = now, time.monotonic()
        return time.monotonic() - changed > longest
    return is_over
