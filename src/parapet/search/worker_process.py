"""The child's side of `workers`: reads tasks as JSON lines, calls a function of the library, answers in JSON lines.

Run as `python -m parapet.search.worker_process`. It ends when its parent does: the parent holds the other end of
its standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from parapet.cores import limit_threads
from parapet.errors import InputError, ParapetError, ProcessDied, WorkError, told
from parapet.redaction import redacted


def main() -> None:
    """Serve tasks until standard input ends."""
    limit_threads(os.environ)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it saves and ends its children
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a print inside a library must not garble the protocol
    tasks: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    while True:
        _serve(tasks.get(), answers)


def _listen(tasks: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


def _serve(task: dict[str, Any], answers: TextIO) -> None:
    def answer(kind: str, **values: Any) -> None:
        told = {name: redacted(value) if isinstance(value, str) else value for name, value in values.items()}
        answers.write(json.dumps({"kind": kind, **told}) + "\n")

    def progress(text: str, share: float) -> None:
        answer("progress", text=text, share=share)

    try:
        module, name = task["function"].split(":")
        answer("done", result=getattr(importlib.import_module(module), name)(**task["arguments"], progress=progress))
    except InputError as error:
        answer("input_error", text=str(error))
    except WorkError as error:
        answer("work_error", text=str(error))
    except ProcessDied as error:
        answer("died", reason=str(error))
    except ParapetError as error:
        answer("failed", reason=str(error))
    except Exception as error:  # a candidate that fails is a result, whatever the failure
        if (sentence := told(error)) is not None:
            answer("input_error" if isinstance(sentence, InputError) else "work_error", text=str(sentence))
        else:
            answer("failed", reason=f"{type(error).__name__}: {error}", trace=traceback.format_exc())


if __name__ == "__main__":
    main()
