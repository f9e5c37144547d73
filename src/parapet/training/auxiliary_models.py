"""Networks that have to be finished before another can be trained: a teacher, or those whose attacks are borrowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from parapet.catalogue.crafting import CRAFTINGS
from parapet.catalogue.losses import LOSSES
from parapet.genome import Genome

TEACHER = "teacher"
# Tramèr et al. 2018 borrow from two to four static networks; on a search's budget two have to do.
_STATIC = ("static-1", "static-2")


@dataclass(frozen=True)
class AuxiliaryModels:
    """What was trained beforehand, in eval mode and without gradients of parameters.

    teacher: of distillation. static: the networks that ensemble adversarial training crafts on beside its own.
    """

    teacher: nn.Module | None = None
    static: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, networks: dict[str, nn.Module]) -> AuxiliaryModels:
        """The finished networks by the names of `auxiliary_genomes`."""
        for network in networks.values():
            network.eval().requires_grad_(False)
        return cls(networks.get(TEACHER), tuple(network for name, network in networks.items() if name != TEACHER))


def auxiliary_genomes(genome: Genome) -> dict[str, Genome]:
    """Name and genome of each network to be trained first; empty for most recipes.

    The teacher has the student's shape and temperature (Papernot et al. 2016, section IV). Static networks are the same
    network trained without attacks; each gets a seed of its own.
    """
    if (teacher := LOSSES[genome.loss].teacher) is not None:
        return {TEACHER: replace(genome, loss=teacher).canonical()}
    if CRAFTINGS[genome.crafting].borrows:
        return {name: replace(genome, loss="standard").canonical() for name in _STATIC}
    return {}


def checkpoint_of(path: Path, name: str) -> Path:
    """Where the training of the auxiliary model `name` keeps its state, beside that of the network it is for."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}")
