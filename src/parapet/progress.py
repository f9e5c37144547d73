"""One progress line for long work: live in a terminal, plain lines elsewhere, never silent for long."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from parapet.redaction import redacted

# Without a terminal a line is written at least this often, also when nothing has moved.
PLAIN_SECONDS = 5.0
_MINIMUM_ESTIMATE = 0.03


class Progress:
    """Shows `title`, how much is done, what is in progress, and an estimate of the time left.

    A context manager; `total` is in units of `unit`. Updates are cheap and may come from any thread.
    """

    def __init__(self, title: str, total: float, unit: str, stream: TextIO | None = None) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.text = 0.0, "starting"
        # Work that the first report counts was done by an earlier run: it must not shorten the estimate.
        self._before: float | None = None
        self._started = time.monotonic()
        self._stream = stream or sys.stdout
        self._console = Console(file=self._stream)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._bar: Bar | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._bar = Bar(TextColumn("[bold]{task.fields[title]}"), BarColumn(bar_width=24), _Status(self),
                            console=self._console, refresh_per_second=4)
            self._bar.start()
            self._bar.add_task("", title=self.title, total=self.total)
        else:
            self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        self._stop.set()
        self._thread.join(1)
        if self._bar is not None:
            self._show()
            self._bar.stop()
        elif kind is None:
            self._write()

    def update(self, done: float, text: str) -> None:
        """`done` units are finished, and `text` is in progress."""
        with self._lock:
            if self._before is None:
                self._before = done
            self.done, self.text = done, text
        self._show()

    def note(self, text: str) -> None:
        """A line of its own, above the progress line."""
        text = redacted(text)
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    def status(self) -> str:
        """For example `12/32 candidates  elapsed 0:41, about 1:10 left  training 2`."""
        elapsed = time.monotonic() - self._started
        parts = [f"{int(self.done)}/{int(self.total)} {self.unit}", f"elapsed {clock(elapsed)}{self._left(elapsed)}"]
        return "  ".join([*parts, redacted(self.text)] if self.text else parts)

    def _left(self, elapsed: float) -> str:
        before = self._before or 0.0
        share = (self.done - before) / max(1e-9, self.total - before)
        if share <= _MINIMUM_ESTIMATE or self.done >= self.total:
            return ""
        return f", about {clock(elapsed * (1 - share) / share)} left"

    def _tick(self) -> None:
        while not self._stop.wait(PLAIN_SECONDS if self._bar is None else 1.0):
            if self._bar is None:
                self._write()
            else:
                self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done)

    def _write(self) -> None:
        print(f"{self.title}  {self.status()}", file=self._stream, flush=True)


class _Status(TextColumn):
    """The part of the line behind the bar."""

    def __init__(self, progress: Progress) -> None:
        super().__init__("")
        self._progress = progress

    def render(self, task: Task) -> Text:
        return Text(self._progress.status(), no_wrap=True, overflow="ellipsis")


def clock(seconds: float) -> str:
    """59 seconds as `0:59`, 3725 as `1:02:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
