"""The worker process of `pool`: reads tasks as JSON lines, calls functions of the library, answers in JSON lines.

Run as `python -m parapet.processes.worker`. It ends when its standard input is closed, which the kernel does when the
parent ends.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from parapet import log
from parapet.catalogue import plugins
from parapet.catalogue.spec import resolve
from parapet.cores import limit_threads
from parapet.errors import (
    InputError,
    ParapetError,
    ProcessDied,
    WorkError,
    is_broken_device,
    is_out_of_memory,
    told,
)
from parapet.redaction import redacted

Answer = Callable[..., None]
_LONGEST = 300


class Report:
    """The argument `progress` of a task's function: a call reports a text and a share, `tell` reports other values."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __call__(self, text: str, share: float) -> None:
        """Report the current work, `text`, and the share (of 1) that is done."""
        self._answer("progress", text=text, share=share)

    def tell(self, values: dict[str, Any]) -> None:
        """Send `values`, which must be JSON, to the parent process."""
        self._answer("told", values=values)


def main() -> None:
    """Serve tasks until standard input ends."""
    limit_threads(os.environ)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C: it saves its state and ends its children
    faulthandler.enable(all_threads=False)  # if native code crashes, standard error has the Python line
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of a library must not appear between the answers
    tasks: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    answer = answering(answers)
    listener = logging.getLogger(log.NAME)
    listener.addHandler(_Events(answer))
    listener.setLevel(logging.DEBUG)
    listener.propagate = False
    while True:
        serve(tasks.get(), answer)


def answering(stream: TextIO) -> Answer:
    """A function that writes an answer to `stream` as a JSON line; texts are redacted."""
    lock = threading.Lock()

    def answer(kind: str, **values: Any) -> None:
        clean = {name: redacted(value) if isinstance(value, str) else value for name, value in values.items()}
        line = json.dumps({"kind": kind, **clean}) + "\n"
        with lock:
            stream.write(line)
    return answer


def serve(task: dict[str, Any], answer: Answer) -> None:
    """Run a task; answers begun, and at its end done, input_error, work_error, failed, died or out_of_memory."""
    answer("begun")  # the start of the process does not count as time of the task
    try:
        plugins.inherit(task["plugins"])
        answer("done", result=resolve(task["function"])(**task["arguments"], progress=Report(answer)))
    except InputError as error:
        answer("input_error", text=str(error), trace=traceback.format_exc())
    except WorkError as error:
        answer("work_error", text=str(error), trace=traceback.format_exc())
    except ProcessDied as error:
        answer("died", reason=str(error), lost=error.how, trace=traceback.format_exc())
    except ParapetError as error:
        answer("failed", reason=str(error), lost=None, trace=traceback.format_exc())
    except Exception as error:  # a candidate that fails is a result, whatever the failure
        # Redacted before it is cut: in half of an address a password would not be recognised.
        said = redacted(next(iter(str(error).splitlines()), "it said nothing"))
        text = f"{type(error).__name__}: {said[:_LONGEST]}"
        trace = traceback.format_exc()
        if (sentence := told(error)) is not None:
            answer("input_error" if isinstance(sentence, InputError) else "work_error", text=str(sentence), trace=trace)
        elif is_out_of_memory(error):
            answer("out_of_memory", reason=text, trace=trace)
        elif is_broken_device(error):
            answer("died", reason=text, lost=type(error).__name__, trace=trace)
        else:
            answer("failed", reason=text, lost=type(error).__name__, trace=trace)


def _listen(tasks: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


class _Events(logging.Handler):
    """Sends log events to the parent process."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        self._answer("event", text=record.getMessage(), level=record.levelno,
                     **{name: getattr(record, name, None) for name in ("step", "candidate", "values")})


if __name__ == "__main__":
    main()
