"""The command line `parapet`: the only place that knows the working directory, the environment and exit codes."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from parapet import log
from parapet.cli import crash
from parapet.cli.lifetime import end_with_parent
from parapet.cli.listening import debugging, listening
from parapet.cores import limit_threads
from parapet.errors import InputError, Interrupted, ParapetError, WorkError, is_out_of_memory, told
from parapet.redaction import redacted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    limit_threads(os.environ)  # before numpy and torch are loaded
    from parapet.cli.parser import parse_arguments

    options = parse_arguments(arguments)
    params = getattr(options, "params", None)

    def work() -> int | None:
        from parapet.cli import plugins

        plugins.register(os.environ, params or Path("params.yaml"))
        code: int | None = options.verb(options)
        return code

    return guarded("parapet", work, arguments=arguments, debug=options.debug, step=options.command, params=params)


def guarded(program: str, work: Callable[[], int | None],
            interrupted: str = "what is done is kept, and the same command goes on from there", *,
            arguments: Sequence[str] | None = None, debug: bool = False, step: str | None = None,
            params: Path | None = None) -> int:
    """Call `work`; turn its result or its exception into an exit code and, if it failed, a sentence.

    0 done, 1 failed, 2 wrong input, 3 refused, 130 interrupted; a number that `work` returns is kept. `interrupted`
    says what happens to interrupted work. An unexpected exception leaves a crash report, with the `arguments` of the
    program and its file of parameters. With `debug`, or PARAPET_DEBUG, the traceback behind a sentence is shown.
    """
    debug = debug or debugging(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another encoding shows ? for what it lacks
    try:
        end_with_parent()
        with listening(os.environ, debug=debug) as last:
            try:
                with log.span(step or program):
                    return work() or 0
            except (KeyboardInterrupt, Exception) as error:
                return _end(error, program, interrupted, debug=debug, step=step, report=lambda fault: crash.write(
                    fault, program, sys.argv[1:] if arguments is None else arguments, os.environ, params, last))
    except (Interrupted, InputError) as error:  # before any handler of log events was added
        return _end(error, program, interrupted, debug=debug, step=step, report=lambda fault: None)


def _end(error: BaseException, program: str, interrupted: str, *, debug: bool, step: str | None,
         report: Callable[[BaseException], Path | None]) -> int:
    """Print the sentence of an error; returns the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of the output ended first, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WorkError.exit_code
    if debug:
        print(crash.without_secrets(_whole(error), os.environ), file=sys.stderr)
    if isinstance(error, KeyboardInterrupt | Interrupted):
        code, text = Interrupted.exit_code, f"interrupted; {interrupted}."
        print(f"\n{text}", file=sys.stderr)
    else:
        code, text = _sentence(error) or (
            WorkError.exit_code, crash.without_secrets(_fault(error, report(error)), os.environ))
        print(f"{program}: {redacted(text)}", file=sys.stderr)
    log.event(text, step=step, level=logging.ERROR, exit_code=code)
    return code


def _sentence(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the sentence of an expected error; None for a fault of Parapet."""
    if isinstance(error, ParapetError):
        return error.exit_code, str(error)
    if isinstance(error, FileNotFoundError):
        return InputError.exit_code, (f"{error.filename}: {error.strerror}; run the steps that come before (README.md "
                                      "lists them), or give the right folder.")
    if (sentence := told(error)) is not None:
        return sentence.exit_code, str(sentence)
    if is_out_of_memory(error):
        return WorkError.exit_code, (f"memory ran out ({_first_line(error)}); give it more, or run less beside it, and "
                                     "run the same command again: what is done is kept.")
    return None


def _fault(error: BaseException, report: Path | None) -> str:
    where = f"a crash report was written to {report}; please send it" if report else \
        "and no crash report could be written; please send what --debug shows"
    return f"this is a fault of Parapet ({_first_line(error)}); {where}."


def _first_line(error: BaseException) -> str:
    text = redacted(next(iter(str(error).splitlines()), ""))[:200].rstrip(".")
    return text if hasattr(error, "trace") else ": ".join(filter(None, [type(error).__name__, text]))


def _whole(error: BaseException) -> str:
    """The traceback with all causes and contexts, also those that `raise ... from None` hides."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and not any(link is seen for seen in chain):
        chain.append(link)
        link.__suppress_context__ = False
        link = link.__cause__ or link.__context__
    shown = [*traceback.format_exception(chain[0]), *_traces(chain)]
    return "".join(shown).rstrip("\n")


def _traces(chain: Iterable[BaseException]) -> list[str]:
    return [f"\nin the child process:\n{trace}" for error in chain if (trace := getattr(error, "trace", None))]
