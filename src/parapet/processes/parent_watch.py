"""Ends a child process when its parent has ended or no longer waits for it.

The workers of `pool` do not use this: when their parent ends, the kernel closes their standard input.
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
    """Call `end`, which ends this process, as soon as `is_over` returns True; a thread asks twice a second."""
    def watch() -> None:
        while not is_over():
            time.sleep(_LOOK_EVERY)
        end()
    threading.Thread(target=watch, daemon=True).start()


def is_alive(process: psutil.Process) -> bool:
    """Whether `process` is running; a zombie is not."""
    try:
        alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return alive
    except psutil.Error:
        return False


def has_ended(pid: int) -> Callable[[], bool]:
    """A function that says whether the process `pid` has ended; an id that does not exist now counts as ended."""
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return lambda: True
    return lambda: not is_alive(process)


def is_silent(heartbeat: Path, longest: float) -> Callable[[], bool]:
    """A function that says whether the modification time of `heartbeat` has not changed for `longest` seconds.

    The time itself is not compared with this machine's clock, because the clocks of two machines differ.
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
