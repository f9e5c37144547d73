"""How many CPU cores this process may use, and a readers-writer lock on them.

Training and attacks hold the lock shared, batch by batch; latency timing holds it exclusively. The lock consists of two
files. A process that waits for the exclusive lock holds the first one, the turnstile, so that no new shared lock is
granted and timing is not starved. The kernel releases the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from parapet.disk import quota

# Read by OpenMP (torch), OpenBLAS (numpy, scipy) and MKL when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Cores:
    """The readers-writer lock in `folder`, for all processes of a machine that use the same folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder: Path | None = folder
        self._turnstile, self._room = folder / "turnstile.lock", folder / "cores.lock"

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the shared lock for a short piece of work (a batch); waits while another process holds the exclusive
        lock or waits for it."""
        with _locked(self._turnstile, fcntl.LOCK_SH):
            room = _lock(self._room, fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(room)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the exclusive lock: no other process holds the lock inside the block."""
        with _locked(self._turnstile, fcntl.LOCK_EX), _locked(self._room, fcntl.LOCK_EX):
            yield


class FreeCores:
    """A replacement for `Cores` where no other work runs on the machine; it never waits."""

    folder: Path | None = None

    def shared(self) -> AbstractContextManager[object]:
        """A context that does nothing."""
        return nullcontext()

    def exclusive(self) -> AbstractContextManager[object]:
        """A context that does nothing."""
        return nullcontext()


def cpu_count(root: Path = Path("/")) -> int:
    """The number of cores that this process may use, at least 1: its CPU affinity, limited by its CPU quota.

    A quota is rounded down, because two workers on 1.5 cores would wait for each other. `root`: see `quota.granted`.
    """
    granted = quota.granted(root)
    return _available() if granted is None else max(1, min(_available(), int(granted)))


def affinity() -> list[int] | None:
    """The numbers of the cores that this process may run on; None where the system does not provide them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def describe(root: Path = Path("/")) -> str:
    """A text such as "2 of 64 cores" where the quota is smaller than the affinity; else an empty text."""
    count = cpu_count(root)
    return f"{count} of {_available()} cores" if count < _available() else ""


def limit_threads(environment: MutableMapping[str, str], root: Path = Path("/")) -> None:
    """Limit the threads of numerical libraries that are loaded later to `cpu_count(root)`.

    Without this they use all cores of the machine and ignore the quota. To be called at the start of a process with its
    `environment`. Existing variables keep their values; without a quota below the affinity nothing is set.
    """
    if (count := cpu_count(root)) < _available():
        for name in _THREADS:
            environment.setdefault(name, str(count))


def _available() -> int:
    cores = affinity()
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
