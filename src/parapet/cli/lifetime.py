"""A run ends when whoever started it does, and SIGTERM saves as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

import psutil

from parapet.errors import Interrupted

_LOOK_EVERY = 0.5
_GRACE = 10.0
# Between these and the run there may be shells; killing any of them must not leave a search behind.
_DRIVERS = ("dvc", "make", "gmake")


def end_with_parent() -> None:
    """Take SIGTERM for Ctrl-C, and watch the parent: `kill -9` of it cannot be seen any other way.

    Every process between this one and the outermost dvc or make is watched too. Under nohup, which ignores SIGHUP,
    the run is meant to outlive its parent.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return
    watched = _watched()
    if watched:
        threading.Thread(target=_watch, args=(watched,), daemon=True).start()


def _watched() -> list[psutil.Process]:
    parents = psutil.Process().parents()
    drivers = [place for place, process in enumerate(parents) if _is_driver(process)]
    return [process for process in parents[:max([*drivers, 0]) + 1] if process.pid > 1]


def _is_driver(process: psutil.Process) -> bool:
    try:
        words = [word.rsplit("/", 1)[-1] for word in [process.name(), *process.cmdline()[:3]]]
    except psutil.Error:
        return False
    return any(word in _DRIVERS for word in words)


def _watch(watched: list[psutil.Process]) -> None:
    while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(Interrupted.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("SIGTERM")
