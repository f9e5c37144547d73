"""A run ends when the process that started it ends, and SIGTERM saves the state as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

import psutil

from parapet.errors import Interrupted
from parapet.processes.parent_watch import end_when, is_alive

_GRACE = 10.0
# Between these and the run there may be shells; killing any of them must not leave a search behind.
_DRIVERS = ("dvc", "make", "gmake")
# What the drivers leave in the environment of what they start.
_DRIVEN_BY = {"DVC_STAGE": ("dvc",), "MAKELEVEL": ("make", "gmake")}


def end_with_parent() -> None:
    """Treat SIGTERM as Ctrl-C, and poll the parent process: nothing else reports that it was killed by `kill -9`.

    Every process between this one and the outermost dvc or make is watched too. Under nohup, which ignores SIGHUP,
    the run is meant to outlive its parent.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return
    watched = _watched()
    if _driver_was_killed(watched):
        raise Interrupted("the driver was killed before this began to watch it")
    if watched:
        end_when(lambda: not all(map(is_alive, watched)), _end)


def _watched() -> list[psutil.Process]:
    parents = psutil.Process().parents()
    drivers = [place for place, process in enumerate(parents) if _is_driver(process)]
    return [process for process in parents[:max([*drivers, 0]) + 1] if process.pid > 1]


def _is_driver(process: psutil.Process, names: tuple[str, ...] = _DRIVERS) -> bool:
    try:
        words = [word.rsplit("/", 1)[-1] for word in [process.name(), *process.cmdline()[:3]]]
    except psutil.Error:
        return False
    return any(word in names for word in words)


def _driver_was_killed(watched: list[psutil.Process]) -> bool:
    """Whether dvc or make was killed while Python started: the environment names it, and no parent process is it."""
    return any(int(os.environ.get(mark) or 0) > 0 if mark == "MAKELEVEL" else mark in os.environ
               for mark, names in _DRIVEN_BY.items() if not any(_is_driver(process, names) for process in watched))


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(Interrupted.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("SIGTERM")
