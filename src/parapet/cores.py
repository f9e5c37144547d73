"""How many cores there are to use, and who may use them: training in small turns side by side, latency timing alone.

The lock is a readers-writer lock over two files, fair by a turnstile: whoever wants to time waits there, and no new
turn begins behind it. The kernel drops the locks of a process that dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from parapet import quota

# What OpenMP (torch), OpenBLAS (numpy, scipy) and MKL read when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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

    def turn(self) -> AbstractContextManager[object]:
        """No waiting."""
        return nullcontext()

    def alone(self) -> AbstractContextManager[object]:
        """No waiting."""
        return nullcontext()


def cpu_count(root: Path = Path("/")) -> int:
    """Cores that this process may use: those it is bound to, and no more than it is granted time for; at least 1.

    Half a core more is none more: two workers on 1.5 cores only wait for each other. `root` is as in `quota.granted`.
    """
    granted = quota.granted(root)
    return _there_are() if granted is None else max(1, min(_there_are(), int(granted)))


def bound() -> list[int] | None:
    """The numbers of the cores that this process is bound to; None where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def described(root: Path = Path("/")) -> str:
    """For example "2 of 64 cores", where fewer are granted than there are; else empty."""
    count = cpu_count(root)
    return f"{count} of {_there_are()} cores" if count < _there_are() else ""


def limit_threads(environment: MutableMapping[str, str], root: Path = Path("/")) -> None:
    """Have numerical libraries that are loaded later start as many threads as there are cores granted.

    They count the machine's cores themselves. For the entry of a process, with its `environment`; what is set there
    already stays, and where no quota says less nothing is set.
    """
    if (count := cpu_count(root)) < _there_are():
        for name in _THREADS:
            environment.setdefault(name, str(count))


def _there_are() -> int:
    cores = bound()
    return len(cores) if cores is not None else os.cpu_count() or 1


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
