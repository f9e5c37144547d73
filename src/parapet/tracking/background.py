"""Sends while the search runs: a thread that empties the outbox and never disturbs the search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from parapet.tracking.connection import sentence
from parapet.tracking.loading import load_sending
from parapet.tracking.mlflow_tracker import Flushed, flush
from parapet.tracking.outbox import Outbox

_LONGEST_PAUSE = 60.0


class BackgroundSender:
    """A daemon thread that sends the events of `outbox` as they come.

    Its construction imports MLflow, which takes seconds the first time in a process; the thread itself imports nothing.
    `gate()` is held around each event, so that this thread does not run while latency is measured. `tell` gets each
    message for the user once: that MLflow is away, what it refused.
    """

    def __init__(self, outbox: Outbox, uri: str, experiment: str, artifact_root: Path | None = None,
                 gate: Callable[[], AbstractContextManager[object]] = nullcontext,
                 tell: Callable[[str], None] = lambda message: None, *, parent_run_id: str | None = None,
                 pause: float = 5.0) -> None:
        """`pause` is the interval at which the queue is read, in seconds; it grows while MLflow is away."""
        self._outbox, self._tell, self._pause = outbox, tell, pause
        self._flush: Callable[[], Flushed] = lambda: flush(outbox, uri, experiment, artifact_root,
                                                           parent_run_id=parent_run_id, gate=gate,
                                                           stop=self._out_of_time)
        self._told: set[str] = set()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._deadline: float | None = None
        load_sending(uri)
        outbox.notify = self.wake
        self._thread = threading.Thread(target=self._run, name="parapet-tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Read the queue now."""
        self._awake.set()

    def close(self, timeout: float = 30.0) -> int:
        """Send what can be sent within `timeout` seconds, end the thread, and return how many events still wait."""
        self._outbox.notify = None
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._awake.set()
        self._thread.join(timeout)
        try:
            return self._outbox.pending()
        except OSError as error:  # a full disk: the command has done its work, and must not fail now
            self._say("count", f"Events that wait for MLflow could not be counted: {sentence(error)}")
            return 0
        finally:
            # A thread that is still sending must not print while the interpreter shuts down.
            self._tell = lambda message: None

    def _run(self) -> None:
        pause = self._pause
        while True:
            last = self._closing.is_set()
            away = self._once()
            if last:
                return
            if away:
                # New events do not bring the server back, so only closing ends this pause.
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._closing.wait(pause)
            else:
                pause = self._pause
                self._awake.wait(pause)
            self._awake.clear()

    def _once(self) -> bool:
        """Send what waits, if anything, and report; True where MLflow is away."""
        try:
            result = self._flush() if self._outbox.pending() else Flushed(0, 0)
        except Exception as error:  # a full disk, for example: the search finds out for itself
            result = Flushed(0, 0, reason=f"Events could not be sent to MLflow: {sentence(error)}")
        for warning in result.warnings:
            self._say(warning, warning)
        if result.reason is not None:
            self._say("away", f"{result.reason} The search goes on; what MLflow did not get is kept and sent later.")
        return result.reason is not None

    def _say(self, topic: str, message: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            try:
                self._tell(message)
            except Exception:  # a broken terminal must not stop the sending
                return

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline
