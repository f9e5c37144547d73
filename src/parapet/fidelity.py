"""How much training a candidate gets: full training, or the reduced training of a rung of the search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from parapet.config import Rung, TrainingConfig
from parapet.errors import InputError
from parapet.genome import Genome


@dataclass(frozen=True)
class Fidelity:
    """The amount of training of one rung; rung 0 is the cheapest, and `full` marks full training.

    epochs: in total, including those of lower rungs where a candidate continues from them. data_share: the share of the
    training images, in (0, 1]. crafting: "own" for the genome's attack, "n_fgsm" for one noisy step instead.
    """

    rung: int
    full: bool
    epochs: int
    data_share: float = 1.0
    crafting: str = "own"

    @classmethod
    def ladder(cls, rungs: tuple[Rung, ...], epochs: int) -> list[Fidelity]:
        """All fidelities of a search, cheapest first; full training, with `epochs` epochs, is last.

        Raises InputError where a rung does not have more epochs than the one below.
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
        """The fidelity from the output of `to_dict`."""
        return cls(**values)

    def images(self, available: int, batch: int) -> int:
        """How many of the `available` training images are used; at least one batch of size `batch`, if available."""
        return min(available, max(batch, round(self.data_share * available)))

    def recipe(self, genome: Genome) -> Genome:
        """The genome with the attack that is used in this training; its network is the same."""
        if self.crafting == "own" or not genome.meets_attacks or genome.crafting != "pgd":
            return genome
        return replace(genome, crafting=self.crafting).canonical()

    def config(self, config: TrainingConfig, *, behind: int = 0, started: bool = False) -> TrainingConfig:
        """The configuration of this training, of which `behind` epochs are already done.

        A training that is `started` from trained weights has its own schedule, as in warm restarts (Loshchilov and
        Hutter 2017), and uses the full radius from the beginning.
        """
        return replace(config, epochs=self.epochs - behind, eps_ramp=0.0 if started else config.eps_ramp)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that proposals and archive records contain."""
        return dict(vars(self))
