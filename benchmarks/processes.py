"""Everyone in a process of their own, and one at work at a time: what one does to its process helps no other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


class ContestantProcess(AbstractContextManager):
    """A process that runs `serve(pipe, *arguments)`: it answers on the pipe what it is asked there, one at a time."""

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()

    def ask(self, what: str) -> Any:
        """The answer to `what`. Raises RuntimeError where the process has died."""
        try:
            self._pipe.send(what)
            return self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"the process for {what} died; its error stands above") from None
