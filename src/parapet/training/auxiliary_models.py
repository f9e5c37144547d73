"""Networks that are trained before another one: a teacher, or the static networks of ensemble adversarial training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from parapet.catalogue.crafting import CRAFTINGS
from parapet.catalogue.losses import LOSSES
from parapet.genome import Genome

TEACHER = "teacher"
# Tramèr et al. 2018 use two to four static networks; a search can afford two.
_STATIC = ("static-1", "static-2")


@dataclass(frozen=True)
class AuxiliaryModels:
    """The trained auxiliary models, in eval mode and with frozen parameters.

    teacher: of distillation. static: the other networks that ensemble adversarial training attacks.
    """

    teacher: nn.Module | None = None
    static: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, networks: dict[str, nn.Module]) -> AuxiliaryModels:
        """From the trained networks by their names in `auxiliary_genomes`; freezes them."""
        for network in networks.values():
            network.eval().requires_grad_(False)
        return cls(networks.get(TEACHER), tuple(network for name, network in networks.items() if name != TEACHER))


def auxiliary_genomes(genome: Genome) -> dict[str, Genome]:
    """Name and genome of each auxiliary model of `genome`; empty for most recipes.

    The teacher has the student's shape and temperature (Papernot et al. 2016, section IV). Static networks are the same
    network trained without attacks; each gets a seed of its own.
    """
    if (teacher := LOSSES[genome.loss].teacher) is not None:
        return {TEACHER: replace(genome, loss=teacher).canonical()}
    if CRAFTINGS[genome.crafting].borrows:
        return {name: replace(genome, loss="standard").canonical() for name in _STATIC}
    return {}


def checkpoint_of(path: Path, name: str) -> Path:
    """The checkpoint of the auxiliary model `name`, beside `path`, the checkpoint of the network that needs it."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}")
