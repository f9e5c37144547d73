"""Python reads this file at its start where its folder is on PYTHONPATH: it counts what is done to files below a
folder, over all processes of a case, and ends the process that is about to do one of them; and it shows another clock.

PARAPET_FAULTS_FILES names the folder, PARAPET_FAULTS_COUNTER a file that grows by a byte with each operation, and
PARAPET_FAULTS_KILL_AT the operation, counted from 1, before which its process gets SIGKILL (0: none).
PARAPET_FAULTS_CLOCK names a file that says by how many seconds the clock is wrong, now and whenever somebody writes it
anew; what counts seconds since the machine was started goes on as ever, as when somebody sets a real clock.
"""

import os
import signal
import sys
import time

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "sqlite3.connect"}


def _begin(folder: str, counter: str, kill_at: int) -> None:
    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & _WRITES:
                return
        elif event not in _CHANGES:
            return
        if not isinstance(arguments[0], str | bytes | os.PathLike) \
                or not os.path.abspath(os.fsdecode(arguments[0])).startswith(folder):  # noqa: PTH100
            return
        os.write(descriptor, b".")
        if os.fstat(descriptor).st_size == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    sys.addaudithook(hook)


def _set_clock(path: str) -> None:
    real = time.time_ns

    def wrong() -> int:
        with open(path) as stream:  # noqa: PTH123
            return real() + int(stream.read() or 0) * 1_000_000_000

    time.time_ns = wrong
    time.time = lambda: wrong() / 1e9


if "PARAPET_FAULTS_CLOCK" in os.environ:
    _set_clock(os.environ["PARAPET_FAULTS_CLOCK"])
if "PARAPET_FAULTS_FILES" in os.environ:
    _begin(os.environ["PARAPET_FAULTS_FILES"], os.environ["PARAPET_FAULTS_COUNTER"],
           int(os.environ["PARAPET_FAULTS_KILL_AT"]))
