"""Who may use the cores: training in small turns that run side by side, latency timing alone.

A readers-writer lock over two files, fair by a turnstile: whoever wants to time waits there, and no new turn begins
behind it. The kernel drops the locks of a process that dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path


class Cores:
    """The lock in folder `folder`; every process of a machine that shares the folder takes part."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder: Path | None = folder
        self._turnstile, self._room = folder / "turnstile.lock", folder / "cores.lock"

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A short piece of work (a batch) beside others; waits while somebody times or wants to."""
        with _locked(self._turnstile, fcntl.LOCK_SH):
            room = _lock(self._room, fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(room)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else has a turn inside the block."""
        with _locked(self._turnstile, fcntl.LOCK_EX), _locked(self._room, fcntl.LOCK_EX):
            yield


class FreeCores:
    """Stands in for `Cores` where nothing else shares the machine."""

    folder: Path | None = None

    def turn(self) -> AbstractContextManager:
        """No waiting."""
        return nullcontext()

    def alone(self) -> AbstractContextManager:
        """No waiting."""
        return nullcontext()


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lock(path: Path, mode: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, mode)
    return descriptor


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[None]:
    descriptor = _lock(path, mode)
    try:
        yield
    finally:
        os.close(descriptor)
