"""The budget of a search: a number of candidates, minutes, hours or GPU-hours."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from parapet.errors import InputError
from parapet.quoting import quote

_AMOUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?) ?([A-Za-z]+(?:[- ][A-Za-z]+)?)")
# Seconds in a unit of time.
_SECONDS = {"minute": 60.0, "hour": 3600.0, "gpu-hour": 3600.0}
_UNITS = ("candidate", *_SECONDS)
_ALLOWED = "write for example 200 candidates, 90 minutes, 2 hours or 8 gpu-hours"


@dataclass(frozen=True)
class Budget:
    """`amount` > 0 of `unit`: candidate, minute, hour or gpu-hour; `text` is what the user wrote.

    Candidates are genomes that were proposed at the cheapest rung. Minutes and hours are wall-clock time; GPU-hours
    are the sum over all devices of the time that each device worked.
    """

    amount: float
    unit: str
    text: str

    @classmethod
    def parse(cls, text: str | None, population: int, generations: int) -> Budget:
        """The budget that `search.budget` describes; None means `population` times `generations` candidates.

        Raises InputError for an amount that is not finite and above 0, a fraction of a candidate, and an unknown unit.
        """
        words = f"{population * generations} candidates" if text is None else " ".join(text.split())
        match = _AMOUNT.fullmatch(words)
        unit = match[2].lower().replace(" ", "-").removesuffix("s") if match else None
        if unit not in _UNITS and re.fullmatch(r"[0-9]{1,12}", words):
            raise InputError(f"search.budget is {quote(text)}, and a number needs a unit; write {words} candidates, "
                             f"{words} minutes, {words} hours or {words} gpu-hours.")
        if match is None or unit not in _UNITS:
            raise InputError(f"search.budget is {quote(text)}; {_ALLOWED}.")
        amount = float(match[1])
        if not 0 < amount < math.inf:
            raise InputError(f"search.budget is {quote(text)}, and a search needs more than nothing and less than "
                             f"everything; {_ALLOWED}.")
        if unit == "candidate" and amount % 1:
            raise InputError(f"search.budget is {quote(text)}, and candidates are whole; {_ALLOWED}.")
        return cls(amount, unit, words)

    def spent(self, candidates: int, seconds: float, device_seconds: float) -> float:
        """The spent share of the budget, >= 0; above 1 the budget is exceeded.

        candidates: proposed so far. seconds: wall-clock time so far. device_seconds: working time, summed over devices.
        """
        if self.unit == "candidate":
            return candidates / self.amount
        used = device_seconds if self.unit == "gpu-hour" else seconds
        return used / (self.amount * _SECONDS[self.unit])

    def exhausted(self, candidates: int, seconds: float, device_seconds: float) -> bool:
        """Whether the budget is used up; the arguments are those of `spent`."""
        return self.spent(candidates, seconds, device_seconds) >= 1.0

    def __str__(self) -> str:
        return self.text
