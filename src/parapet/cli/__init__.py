"""The command line `parapet`: the only place that knows the working directory, the environment and exit codes."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from parapet.cli.lifetime import end_with_parent
from parapet.errors import InputError, Interrupted, ParapetError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 failed, 2 wrong input, 3 refused, 130 interrupted)."""
    from parapet.cli.parser import parse_arguments

    options = parse_arguments(arguments)
    try:
        end_with_parent()
        options.verb(options)
    except (KeyboardInterrupt, Interrupted):
        print("\ninterrupted; what is done is kept, and the same command goes on from there.", file=sys.stderr)
        return Interrupted.exit_code
    except ParapetError as error:
        print(f"parapet: {error}", file=sys.stderr)
        return error.exit_code
    except PermissionError as error:
        print(f"parapet: {error.filename} cannot be written ({error.strerror}); give a folder that you may write to.",
              file=sys.stderr)
        return InputError.exit_code
    except OSError as error:
        if error.errno not in _FULL:
            raise
        print(f"parapet: the disk is full ({error.filename or 'while writing'}); free some space and run the same "
              "command again: what is done is kept.", file=sys.stderr)
        return 1
    return 0
