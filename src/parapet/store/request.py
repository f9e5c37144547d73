"""What the search asks for: one candidate, or another look at one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parapet.fidelity import Fidelity
from parapet.genome import Genome


@dataclass(frozen=True)
class Request:
    """One candidate to be measured.

    `parent` is None for training from scratch, else {training_key, kind, epochs}: whose weights it begins with, and how
    many epochs those have behind them where it goes on from the rung below. `look` counts evaluations of the same
    training. `final` belongs to the end of the search, which a longer search does not see.
    """

    genome: Genome
    fidelity: Fidelity
    parent: dict[str, Any] | None = None
    repeat: int = 0
    look: int = 1
    final: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON."""
        return {"genome": self.genome.to_dict(), "fidelity": self.fidelity.to_dict(), "parent": self.parent,
                "repeat": self.repeat, "look": self.look, "final": self.final}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        """What `to_dict` gave."""
        return cls(Genome.from_dict(values["genome"]), Fidelity.from_dict(values["fidelity"]), values["parent"],
                   values["repeat"], values["look"], values["final"])
