"""A pool of worker processes that may die: each is supervised, replaced, and ended with its parent.

A task names a function of the library and JSON arguments; its `TaskResult` is a JSON value or the reason why there is
none. Nothing is pickled.

Two libraries were tried in its place. pebble 5 tells the signal of a worker that died, but not what it had written to
its standard error, and after kill -9 of the parent both busy workers were still running 8 seconds later. loky 3 fails
every waiting task when one worker dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

from parapet import log
from parapet.catalogue import plugins
from parapet.errors import InputError, WorkError
from parapet.processes import deaths
from parapet.redaction import redacted

_MODULE = "parapet.processes.worker"
_TICK = 0.25
# Bytes of a worker's standard error that are kept, and chunks of it that are read before the next worker is served.
_KEPT, _CHUNKS = 16_384, 16


@dataclass(frozen=True)
class Task:
    """`function` is "module:name"; it is called with `arguments` and `progress(text, share)`.

    If its process dies, the message has `step`, the step that the task starts with (its events may name a later one),
    `about`, the subject of the task, and `advice`, how to avoid the failure. `candidate` is an id, for events.
    """

    name: str
    function: str
    arguments: dict[str, Any]
    step: str = ""
    about: str = ""
    advice: str = ""
    candidate: str | None = None


@dataclass(frozen=True)
class TaskResult:
    """The outcome of a task: a result, or a reason why there is none; `seconds` is the time that workers spent on it.

    `lost` is set where the task itself may not be at fault: the signal that ended its process, "out of memory", "time",
    or the class of an exception (then `unexpected` is True); it is equal for losses of the same kind. `trace` is for
    debugging: tracebacks, and the standard error of the process.
    """

    result: dict[str, Any] | None
    reason: str | None = None
    trace: str | None = None
    seconds: float = 0.0
    lost: str | None = None
    unexpected: bool = False


@dataclass
class _Job:
    place: int
    task: Task
    attempts: int = 0
    seconds: float = 0.0


@dataclass(eq=False)
class _Worker:
    device: str
    process: subprocess.Popen[bytes]
    job: _Job | None = None
    step: str = ""
    started: float = 0.0
    begun: bool = False
    buffer: bytes = b""
    said: bytes = b""
    tail: bytes = b""     # of its standard error, after the last whole line
    silent: bool = False  # its standard error is closed
    gone: bool = False    # it has ended; its own child processes may hold its pipes open
    over: bool = False    # it is gone, and all its answers have been read

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
            with contextlib.suppress(BrokenPipeError):
                _pipe(stream).close()

    def hear(self) -> None:
        """Read what the worker wrote to its standard error, keep the end of it, and log it at level DEBUG."""
        for _ in range(_CHUNKS):
            if self.silent or (chunk := _read(self.process.stderr)) is None:
                return
            self.silent = not chunk
            self.said = (self.said + chunk)[-_KEPT:]
            # Only whole lines are logged, because part of a password would not be redacted.
            whole, end, self.tail = (self.tail + chunk).rpartition(b"\n")
            if self.silent or len(self.tail) > _KEPT:
                whole, self.tail = whole + end + self.tail, b""
            if whole:
                log.event(redacted(whole.decode(errors="replace").rstrip("\n")), step=self.step or None,
                          candidate=self.job.task.candidate if self.job else None, level=logging.DEBUG,
                          source="standard error")


class Workers:
    """`len(devices)` processes, each used for many tasks; a context manager that ends all of them.

    Each worker has its own entry of `devices`, the argument `device` of all its tasks. A task whose process dies or
    runs out of memory is tried again, with up to `attempts` attempts in all. Each further attempt is made after all
    other tasks, in a new process, with no other worker beside it. After the last one the task's result is the reason. A
    process that ran out of memory or raised an unexpected error is replaced, because its state may make later tasks
    fail. A task that takes longer than `timeout` seconds is ended and not tried again.
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
            on_wait: Callable[[], None] | None = None,
            on_told: Callable[[int, dict[str, Any]], None] | None = None) -> Iterator[tuple[int, TaskResult]]:
        """Yield (index in `tasks`, result) as tasks finish, in any order.

        `on_progress` is called with (index, text, share), `on_told` with (index, other values that a task reports), and
        `on_wait` a few times a second. An InputError or WorkError in a worker (a missing file, a full disk) is raised
        here, because it concerns every task.
        """
        waiting, again = deque(_Job(place, task) for place, task in enumerate(tasks)), deque[_Job]()
        for worker in self._workers:
            worker.job = None
        while waiting or again or any(worker.job is not None for worker in self._workers):
            self._hand_out(waiting, again)
            for worker, answer in self._listen():
                job = cast(_Job, worker.job)  # `_listen` yields answers only of workers with a job
                if answer["kind"] == "begun":
                    worker.begun, worker.started = True, time.monotonic()
                elif answer["kind"] == "event":
                    worker.step = answer["step"] or worker.step
                    log.event(answer["text"], step=answer["step"] or worker.step or None, level=answer["level"],
                              candidate=answer["candidate"] or job.task.candidate, **answer["values"] or {})
                elif answer["kind"] == "progress":
                    log.event(answer["text"], step=worker.step or None, candidate=job.task.candidate,
                              level=logging.DEBUG, share=answer["share"])
                    if on_progress:
                        on_progress(job.place, answer["text"], answer["share"])
                elif answer["kind"] == "told":
                    if on_told:
                        on_told(job.place, answer["values"])
                elif (result := self._ended(worker, answer, again, on_progress)) is not None:
                    yield job.place, result
            for worker in self._fallen():
                fallen = worker.job
                if (result := self._fell(worker, again, on_progress)) is not None and fallen is not None:
                    yield fallen.place, result
            if on_wait:
                on_wait()

    def _hand_out(self, waiting: deque[_Job], again: deque[_Job]) -> None:
        for worker in [worker for worker in self._workers if worker.job is None and worker.process.poll() is not None]:
            self._replace(worker)
        if not waiting and again and all(worker.job is None for worker in self._workers):
            self.close()  # idle processes hold memory too
            self._give(self._start(), again.popleft())
        free = [worker for worker in self._workers if worker.job is None]
        while waiting and (free or len(self._workers) < len(self.devices)):
            self._give(free.pop() if free else self._start(), waiting.popleft())

    def _start(self) -> _Worker:
        spare = list(self.devices)
        for worker in self._workers:
            spare.remove(worker.device)
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", _MODULE],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for stream in (process.stdout, process.stderr):
            os.set_blocking(_pipe(stream).fileno(), False)
        self._workers.append(_Worker(spare[0], process))
        return self._workers[-1]

    def _give(self, worker: _Worker, job: _Job) -> None:
        worker.job, worker.step, worker.said = job, job.task.step, b""
        worker.begun, worker.started = False, time.monotonic()
        job.attempts += 1
        task = {"function": job.task.function, "arguments": {**job.task.arguments, "device": worker.device},
                "plugins": plugins.inheritance()}
        with contextlib.suppress(BrokenPipeError):  # it has just died: `_fallen` finds it, and the task is tried again
            stdin = _pipe(worker.process.stdin)
            stdin.write(json.dumps(task).encode() + b"\n")
            stdin.flush()

    def _replace(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()

    def _listen(self) -> Iterator[tuple[_Worker, dict[str, Any]]]:
        """Every answer that has arrived; waits up to `_TICK` seconds for the first one."""
        if not self._workers:
            return
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                for stream in (worker.process.stdout, *([] if worker.silent else [worker.process.stderr])):
                    selector.register(_pipe(stream), selectors.EVENT_READ, worker)
            ready = {id(key.data): key.data for key, _ in selector.select(_TICK)}
        for worker in self._workers:
            if id(worker) not in ready:
                worker.over = worker.gone  # no answer has arrived since it ended
                worker.gone = worker.process.poll() is not None
        for worker in ready.values():
            worker.hear()
            chunk = _read(worker.process.stdout)
            worker.over = chunk == b""
            *lines, worker.buffer = (worker.buffer + (chunk or b"")).split(b"\n")
            for line in lines:
                if line and worker.job is not None:
                    yield worker, json.loads(line)

    def _fallen(self) -> list[_Worker]:
        """The workers that died and whose answers have all been read, and those whose task takes too long."""
        now = time.monotonic()
        return [worker for worker in self._workers
                if worker.over or (worker.job is not None and worker.begun and now - worker.started > self.timeout)]

    def _ended(self, worker: _Worker, answer: dict[str, Any], again: deque[_Job],
               on_progress: Callable[[int, str, float], None] | None) -> TaskResult | None:
        """The result of a task after its last answer; None where it is tried again. Raises InputError and WorkError."""
        job, worker.job = cast(_Job, worker.job), None
        job.seconds += time.monotonic() - worker.started
        kind, trace = answer["kind"], answer.get("trace")
        if kind in ("input_error", "work_error"):
            error = InputError(answer["text"]) if kind == "input_error" else WorkError(answer["text"])
            error.add_note(answer["trace"])
            raise error
        if kind == "done":
            return TaskResult(answer["result"], seconds=job.seconds)
        if kind == "failed" and answer["lost"] is None:
            return TaskResult(None, answer["reason"], None, job.seconds)
        said = redacted(worker.said.decode(errors="replace"))
        self._replace(worker)
        trace = "\n".join(filter(None, [trace, said]))
        log.event(trace, step=worker.step or None, candidate=job.task.candidate, level=logging.DEBUG)
        if kind == "failed":
            return TaskResult(None, answer["reason"], trace, job.seconds, answer["lost"], unexpected=True)
        lost = deaths.MEMORY if kind == "out_of_memory" else answer["lost"]
        how = "ran out of memory" if kind == "out_of_memory" else "died"
        return self._once_more(job, worker.step, how, lost, answer["reason"], trace, again, on_progress)

    def _fell(self, worker: _Worker, again: deque[_Job],
              on_progress: Callable[[int, str, float], None] | None) -> TaskResult | None:
        """The result of a task whose worker died or took too long; None where it is tried again or there is no task."""
        job, code = worker.job, worker.process.wait() if worker.over else None
        worker.hear()
        self._replace(worker)
        if job is None:
            return None
        job.seconds += time.monotonic() - worker.started
        said = redacted(worker.said.decode(errors="replace"))
        if code is None:
            log.event(f"it took longer than {self.timeout:g} seconds", step=worker.step or None,
                      candidate=job.task.candidate, level=logging.WARNING)
            return TaskResult(None, f"it took longer than {self.timeout:g} seconds", said or None, job.seconds, "time")
        words = deaths.last_words(said)
        words = f"the last lines of its standard error: {words}" if words else "it said nothing on its standard error"
        return self._once_more(job, worker.step, deaths.told(code), deaths.reason(code), words, said, again,
                               on_progress)

    def _once_more(self, job: _Job, step: str, how: str, lost: str, words: str, trace: str, again: deque[_Job],
                   on_progress: Callable[[int, str, float], None] | None) -> TaskResult | None:
        """Queue a task for another attempt with no other worker beside it; returns its result after the last one."""
        task = job.task
        what = f"{step or 'the process'} of {task.about or task.name} {how}"
        if job.attempts < self.attempts:
            again.append(job)
            log.event(f"{what}; {words}; it is tried again with the machine to itself", step=step or None,
                      candidate=task.candidate, level=logging.WARNING)
            if on_progress:
                on_progress(job.place, "waits to be tried again alone", 0.0)
            return None
        tried = f", in {job.attempts} attempts, the last with the machine to itself" if job.attempts > 1 else ""
        reason = "; ".join(filter(None, [f"{what}{tried}", words, task.advice]))
        log.event(reason, step=step or None, candidate=task.candidate, level=logging.ERROR)
        return TaskResult(None, reason, trace or None, job.seconds, lost)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """`stream`, which is not None, because `_start` opens all three streams of a worker."""
    return cast(IO[bytes], stream)


def _read(stream: Any) -> bytes | None:
    """The bytes that can be read without waiting: None where there are none yet, empty at the end of the stream."""
    try:
        return os.read(stream.fileno(), 1 << 16)
    except BlockingIOError:
        return None
