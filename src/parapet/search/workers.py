"""Processes that work on tasks and may die: each is watched, replaced, and ended with its parent.

A task names a function of the library and JSON arguments; the outcome is its JSON result or the reason why there is
none. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from parapet.errors import InputError, WorkError

_MODULE = "parapet.search.worker_process"
_TICK = 0.25


@dataclass(frozen=True)
class Task:
    """`function` is "module:name"; it is called with `arguments` and `progress(text, share)`."""

    name: str
    function: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a result, or a reason why there is none; and for how long workers were busy with it."""

    result: dict[str, Any] | None
    reason: str | None = None
    trace: str | None = None
    seconds: float = 0.0


@dataclass
class _Worker:
    device: str | None
    process: subprocess.Popen[bytes]
    place: int | None = None
    started: float = 0.0
    buffer: bytes = b""
    answers: list[dict[str, Any]] = field(default_factory=list)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


class Workers:
    """`len(devices)` processes, kept from task to task; a context manager that leaves no process behind.

    Each worker is given its own entry of `devices` as the argument `device` of every task. A process that dies is
    replaced and its task tried again, up to `attempts` times in all; then the task's outcome is the reason. A task
    that takes longer than `timeout` seconds is ended and not tried again.
    """

    def __init__(self, devices: Sequence[str], *, attempts: int = 3, timeout: float = 86400.0) -> None:
        self.devices, self.attempts, self.timeout = list(devices), attempts, timeout
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process now."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def run(self, tasks: Sequence[Task],
            on_progress: Callable[[int, str, float], None] | None = None,
            on_wait: Callable[[], None] | None = None) -> Iterator[tuple[int, Outcome]]:
        """Yield (place in `tasks`, outcome) as tasks finish, in whatever order.

        `on_progress` is told (place, text, share); `on_wait` is called a few times a second. InputError and WorkError
        raised inside a worker (a missing file, a full disk) are raised here: they concern every task.
        """
        waiting, attempts, spent = deque(range(len(tasks))), [0] * len(tasks), [0.0] * len(tasks)
        for worker in self._workers:
            worker.place = None
        while waiting or any(worker.place is not None for worker in self._workers):
            self._hand_out(tasks, waiting, attempts)
            for worker in self._listen():
                for answer in worker.answers:
                    if answer["kind"] == "progress":
                        if on_progress:
                            on_progress(worker.place, answer["text"], answer["share"])
                        continue
                    place, worker.place = worker.place, None
                    if answer["kind"] == "died":
                        spent[place] += time.monotonic() - worker.started
                        if attempts[place] < self.attempts:
                            waiting.appendleft(place)
                        else:
                            yield place, Outcome(None, f"{answer['reason']}, in {attempts[place]} attempts",
                                                 seconds=spent[place])
                        continue
                    yield place, replace(_outcome(answer), seconds=spent[place] + time.monotonic() - worker.started)
                worker.answers.clear()
            for worker, reason, retry in self._fallen():
                place = worker.place
                self._workers.remove(worker)
                worker.end()
                if place is not None:
                    spent[place] += time.monotonic() - worker.started
                    if retry and attempts[place] < self.attempts:
                        waiting.appendleft(place)
                    else:
                        yield place, Outcome(None, f"{reason}, in {attempts[place]} attempts" if retry else reason,
                                             seconds=spent[place])
            if on_wait:
                on_wait()

    def _hand_out(self, tasks: Sequence[Task], waiting: deque[int], attempts: list[int]) -> None:
        busy = {id(worker) for worker in self._workers if worker.place is not None}
        free = [worker for worker in self._workers if id(worker) not in busy]
        while waiting and (free or len(self._workers) < len(self.devices)):
            if free:
                worker = free.pop()
            else:
                taken = [worker.device for worker in self._workers]
                spare = list(self.devices)
                for device in taken:
                    spare.remove(device)
                worker = _start(spare[0])
                self._workers.append(worker)
            place = waiting.popleft()
            worker.place, worker.started = place, time.monotonic()
            attempts[place] += 1
            task = {"function": tasks[place].function,
                    "arguments": {**tasks[place].arguments, "device": worker.device}}
            with contextlib.suppress(BrokenPipeError):  # it died while idle: `_fallen` sees it, and it is tried again
                worker.process.stdin.write(json.dumps(task).encode() + b"\n")
                worker.process.stdin.flush()

    def _listen(self) -> list[_Worker]:
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            if not self._workers:
                return []
            ready = [key.data for key, _ in selector.select(_TICK)]
        for worker in ready:
            chunk = worker.process.stdout.read1(1 << 16)
            *lines, worker.buffer = (worker.buffer + chunk).split(b"\n")
            worker.answers.extend(json.loads(line) for line in lines if line)
        return [worker for worker in ready if worker.answers]

    def _fallen(self) -> list[tuple[_Worker, str, bool]]:
        fallen = []
        for worker in self._workers:
            code = worker.process.poll()
            if code is not None:
                fallen.append((worker, f"the process died ({_death(code)})", True))
            elif worker.place is not None and time.monotonic() - worker.started > self.timeout:
                fallen.append((worker, f"it took longer than {self.timeout:g} seconds", False))
        return fallen


def _start(device: str) -> _Worker:
    return _Worker(device, subprocess.Popen([sys.executable, "-W", "ignore", "-m", _MODULE],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE))


def _outcome(answer: dict[str, Any]) -> Outcome:
    if answer["kind"] == "input_error":
        raise InputError(answer["text"])
    if answer["kind"] == "work_error":
        raise WorkError(answer["text"])
    if answer["kind"] == "failed":
        return Outcome(None, answer["reason"], answer.get("trace"))
    return Outcome(answer["result"])


def _death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}; out of memory?" if -code == signal.SIGKILL else name
