"""The entry of a task of the pipeline, which the command line does not begin."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack

from parapet import log
from parapet.cli.listening import debugging, listening
from parapet.cores import limit_threads


def begin(step: str) -> None:
    """Have the process that calls it start no more threads than it is granted cores, and, until it ends, tell whoever
    PARAPET_LOG and PARAPET_DEBUG name what happens in `step`.

    Raises InputError for a PARAPET_LOG that is not known.
    """
    limit_threads(os.environ)
    debug = debugging(os.environ)
    if not (debug or os.environ.get("PARAPET_LOG")):
        return
    stack = ExitStack()
    stack.enter_context(listening(os.environ, debug=debug))
    stack.enter_context(log.span(step))
    atexit.register(stack.close)
