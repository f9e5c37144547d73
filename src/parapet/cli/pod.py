"""The start of a task of the Kubeflow pipeline, which does not run through the command line."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import traceback
from contextlib import ExitStack
from types import TracebackType

from parapet import log
from parapet.cli import plugins
from parapet.cli.listening import debugging, listening
from parapet.cores import limit_threads
from parapet.redaction import redacted


def begin(step: str) -> None:
    """Set up the calling process for `step`, until it ends.

    It starts no more threads than it is granted cores, its traceback shows no secret, and PARAPET_LOG and PARAPET_DEBUG
    have the beginning and the end or the failure of the step logged. Raises InputError for an unknown PARAPET_LOG and
    for a plugin that cannot be registered.
    """
    limit_threads(os.environ)
    sys.excepthook = _without_secrets
    plugins.register(os.environ)
    debug = debugging(os.environ)
    if not (debug or os.environ.get("PARAPET_LOG")):
        return
    listeners, span = ExitStack(), ExitStack()
    listeners.enter_context(listening(os.environ, debug=debug))
    span.enter_context(log.span(step))

    def failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        span.pop_all()  # so that nothing says "done"
        log.event(f"{kind.__name__}: {error}", step=step, level=logging.ERROR)
        _without_secrets(kind, error, trace)

    sys.excepthook = failed
    atexit.register(listeners.close)
    atexit.register(span.close)  # called before the line above: what is registered last is called first


def _without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception as Python does, redacted."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))
