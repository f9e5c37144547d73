"""How much training a candidate gets: all of it, or the part that a rung of the search says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from parapet.config import Rung, TrainingConfig
from parapet.errors import InputError
from parapet.genome import Genome


@dataclass(frozen=True)
class Fidelity:
    """Rung 0 is the cheapest, `full` the training that candidates are judged by.

    epochs: in all, those of the rungs below included where a candidate goes on from them. data_share: part of the
    training images, in (0, 1]. crafting: "own" for the genome's attack, "n_fgsm" for one noisy step in its place.
    """

    rung: int
    full: bool
    epochs: int
    data_share: float = 1.0
    crafting: str = "own"

    @classmethod
    def ladder(cls, rungs: tuple[Rung, ...], epochs: int) -> list[Fidelity]:
        """Every fidelity of a search, cheapest first; full training, of `epochs`, comes last.

        Raises InputError where a rung trains no longer than the one below it.
        """
        steps = [*(rung.epochs for rung in rungs), epochs]
        for place, (low, high) in enumerate(zip(steps, steps[1:])):
            if low >= high:
                above = "training.epochs" if place + 1 == len(rungs) else f"search.rungs[{place + 1}].epochs"
                raise InputError(f"search.rungs[{place}].epochs is {low}, and {above} is {high}; epochs count from the "
                                 "start of training, so each rung needs more of them than the one below.")
        return [*(cls(place, False, rung.epochs, rung.data_share, rung.crafting) for place, rung in enumerate(rungs)),
                cls(len(rungs), True, epochs)]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Fidelity:
        """What `to_dict` gave."""
        return cls(**values)

    def images(self, available: int, batch: int) -> int:
        """How many of the `available` training images are used; at least a batch."""
        return min(available, max(batch, round(self.data_share * available)))

    def recipe(self, genome: Genome) -> Genome:
        """The genome as it is trained; its network is the same."""
        if self.crafting == "own" or not genome.meets_attacks or genome.crafting != "pgd":
            return genome
        return replace(genome, crafting=self.crafting).canonical()

    def config(self, config: TrainingConfig, *, behind: int = 0, started: bool = False) -> TrainingConfig:
        """The configuration of this training, `behind` epochs of which are over.

        One that is `started` from trained weights has a schedule of its own, as warm restarts do (Loshchilov and Hutter
        2017), and meets the whole radius at once.
        """
        return replace(config, epochs=self.epochs - behind, eps_ramp=0.0 if started else config.eps_ramp)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in proposals and archive records."""
        return dict(vars(self))
