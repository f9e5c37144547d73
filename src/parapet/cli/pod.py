"""The entry of a task of the pipeline, which the command line does not begin."""

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
    """Have the process that calls it start no more threads than it is granted cores, show no secret in the traceback
    that it may end with, and, until it ends, tell whoever PARAPET_LOG and PARAPET_DEBUG name what happens in `step`:
    that it begins, and that it is done or what it failed of.

    Raises InputError for a PARAPET_LOG that is not known, and for a plugin that cannot be registered.
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
    """What Python shows of an exception that nobody caught, without what `redacted` takes out."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))
