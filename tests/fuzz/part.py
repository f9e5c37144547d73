"""What a part of the fuzzing is: it makes a case from a random generator, and says whether the case was taken well."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from pathlib import Path


class Nonsense(AssertionError):
    """Something was accepted that should have been refused, or does not do what it says."""


class Part(ABC):
    """One kind of input. `folder` is an empty folder of its own; a case that takes longer than `seconds` hangs."""

    seconds = 10.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def make(self, chance: random.Random) -> bytes:
        """A case: what the file holds, or the text that is given."""

    @abstractmethod
    def check(self, content: bytes) -> None:
        """Hand the case to the functions that the verbs call.

        Returns where it was accepted and is what it should be. Raises ParapetError where it was refused in a sentence,
        and Nonsense where it was accepted wrongly; anything else is a traceback.
        """

    def put(self, name: str, content: bytes) -> Path:
        """A file of the part's folder with this content."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def case(part: Part, name: str, seed: int, number: int) -> bytes:
    """Case `number` of a part, the same wherever it is made."""
    return part.make(random.Random(f"{name} {seed} {number}"))


def demand(holds: bool, what: str) -> None:
    """Raise Nonsense, saying `what`, unless it holds."""
    if not holds:
        raise Nonsense(what)
