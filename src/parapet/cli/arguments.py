"""A parser of arguments whose errors quote no password."""

from __future__ import annotations

import argparse
from typing import NoReturn

from parapet.redaction import redacted


class Parser(argparse.ArgumentParser):
    """argparse's own, but for what it says of wrong arguments."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without passwords, and exit with 2."""
        super().error(redacted(message))
