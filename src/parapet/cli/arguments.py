"""A parser of arguments whose errors quote no password."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from parapet.redaction import redacted


def debuggable(parser: argparse.ArgumentParser, *, default: object = False) -> None:
    """Give `parser` and the parsers of all its verbs the option --debug."""
    parser.add_argument("--debug", action="store_true", default=default,
                        help="show the traceback of an error, and every log event (or PARAPET_DEBUG=1)")
    for action in list(parser._actions):
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                debuggable(verb, default=argparse.SUPPRESS)


def pathname(text: str) -> Path:
    """The path that an argument gives: not an empty one, which pathlib takes for the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a path, or . for the working directory")
    return Path(text)


class Parser(argparse.ArgumentParser):
    """argparse's parser, with passwords removed from its messages."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, without passwords, and exit with 2."""
        super().error(redacted(message))
