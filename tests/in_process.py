"""`Workers` without processes: tasks go through the same protocol, in the process of the tests.

For the many tests of what a verb says, each of which would start torch anew; that the verbs' real children work, die
and end is told by tests/cli/test_child.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from parapet.catalogue import plugins
from parapet.processes.pool import Task, TaskResult, Workers, _Job, _Worker
from parapet.processes.worker import serve


class InProcess(Workers):
    """One task after the other, in this process."""

    def run(self, tasks: Sequence[Task], on_progress: Callable[[int, str, float], None] | None = None,
            on_wait: Callable[[], None] | None = None,
            on_told: Callable[[int, dict[str, Any]], None] | None = None) -> Iterator[tuple[int, TaskResult]]:
        """As `Workers.run`."""
        for place, task in enumerate(tasks):
            last: list[dict[str, Any]] = []

            def answer(kind: str, place: int = place, last: list[dict[str, Any]] = last, **values: Any) -> None:
                if kind == "progress":
                    on_progress(place, **values)
                elif kind == "told":
                    on_told(place, **values)
                else:
                    last.append({"kind": kind, **values})
            serve({"function": task.function, "arguments": {**task.arguments, "device": self.devices[0]},
                   "plugins": plugins.inheritance()}, answer)
            worker = _Worker(self.devices[0], None, job=_Job(place, task, attempts=self.attempts), step=task.step)
            yield place, self._ended(worker, last[-1], deque(), None)

    def _replace(self, worker: _Worker) -> None:
        """There is no process."""
