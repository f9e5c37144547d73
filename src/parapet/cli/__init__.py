"""The command line `parapet`: the only place that knows the working directory, the environment and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from parapet.cli.lifetime import end_with_parent
from parapet.cores import limit_threads
from parapet.errors import InputError, Interrupted, ParapetError, told
from parapet.redaction import redacted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    limit_threads(os.environ)  # before numpy and torch are loaded
    from parapet.cli.parser import parse_arguments

    options = parse_arguments(arguments)
    return guarded("parapet", lambda: options.verb(options))


def guarded(program: str, work: Callable[[], int | None],
            interrupted: str = "what is done is kept, and the same command goes on from there") -> int:
    """Call `work` and turn how it ends into a sentence and an exit code.

    0 done, 1 failed, 2 wrong input, 3 refused, 130 interrupted; a number that `work` returns is kept. `interrupted`
    says what becomes of interrupted work.
    """
    def say(text: str) -> None:
        print(f"{program}: {redacted(text)}", file=sys.stderr)

    try:
        end_with_parent()
        return work() or 0
    except (KeyboardInterrupt, Interrupted):
        print(f"\ninterrupted; {interrupted}.", file=sys.stderr)
        return Interrupted.exit_code
    except ParapetError as error:
        say(str(error))
        return error.exit_code
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        say(f"{error.filename}: {error.strerror}; run the steps that come before (README.md lists them), or give the "
            "right folder.")
        return InputError.exit_code
    except Exception as error:
        if (sentence := told(error)) is None:
            raise
        say(str(sentence))
        return sentence.exit_code
