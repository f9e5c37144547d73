"""Statistics of shares of images, in closed form: attacks must import with torch and numpy alone."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), as fractions of 1; n >= 1.

    Successes that are a mean over several looks need not be whole.
    """
    share, z2 = successes / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(only_first: int, only_second: int) -> float:
    """One-sided exact p-value that two paired shares are equal (McNemar 1947), against "the second is lower".

    `only_first` images survive the first attack alone, `only_second` the second alone.
    """
    n = only_first + only_second
    p_value: float = sum(math.comb(n, k) for k in range(only_first, n + 1)) / 2**n
    return p_value
