"""Numbers on the command line, checked for their range; an error is one sentence, without the usage of argparse."""

from __future__ import annotations

import math
import re

from parapet.config import SMALLEST_EPS
from parapet.errors import InputError
from parapet.quoting import quote

# More threads than any machine has, larger batches than any memory holds, more images than any data set.
MOST_THREADS, LARGEST_BATCH, MOST_IMAGES, LARGEST_SEED = 1024, 65_536, 1_000_000_000, 2**63 - 1


def optional_whole(option: str, given: str | int | None, low: int, high: int) -> int | None:
    """As `whole`, but None if the option was not given."""
    return None if given is None else whole(option, given, low, high)


def whole(option: str, given: str | int, low: int, high: int) -> int:
    """The whole number that `option` was given. Raises InputError outside `low` to `high`."""
    text = str(given).strip()
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,25}", text) else None
    if number is None or not low <= number <= high:
        allowed = f"lie in {low} to 2**63 - 1" if high == LARGEST_SEED else (
            f"be at least {low}" if high == MOST_IMAGES and number is not None and number < low
            else f"be a whole number from {low} to {high:,}")
        raise InputError(f"{option} is {quote(given) if number is None else number}; it must {allowed}.")
    return number


def radius(option: str, text: str) -> float:
    """A finite number of at least SMALLEST_EPS, such as 0.3 or 8/255. Raises InputError."""
    top, slash, bottom = text.partition("/")
    try:
        value = float(top) / (float(bottom) if slash else 1.0)
    except (ValueError, ZeroDivisionError, OverflowError):
        value = None
    if value is None or not 0 < value < math.inf:
        raise InputError(f"{option} is {quote(text)}; it must be a number above 0, such as 0.3 or 8/255.")
    if value < SMALLEST_EPS:
        raise InputError(f"{option} is {quote(text)}, less than float32 pixels can tell apart; it must be at least "
                         f"{SMALLEST_EPS:g}.")
    return value
