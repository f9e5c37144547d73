"""The networks that represent a family before it is searched: its middle network and its largest one."""

from __future__ import annotations

from parapet.catalogue.losses import LOSSES
from parapet.genome import Genome, settled
from parapet.search.network_space import SearchSpace


def reference_genomes(space: SearchSpace, backbone: str) -> list[Genome]:
    """The middle and the largest network of a family, each with a middle and with the most expensive recipe.

    The networks have no denoiser and no input filter. Fewer than four where some of them are equal in this space.
    """
    middle = {gene.name: gene.choices[(len(gene.choices) - 1) // 2] for gene in space.genes if gene.ordered}
    largest = {name: space.choices(name)[-1] for name in ("width", "depth")}
    losses = [loss for loss in space.choices("loss") if LOSSES[loss].attacked] or list(space.choices("loss"))
    # Of the losses in a search, TRADES needs the most forward and backward passes.
    costly = {"steps": space.choices("steps")[-1], "loss": "trades" if "trades" in losses else losses[-1]}
    plain = {**middle, "backbone": backbone, "activation": space.choices("activation")[0], "denoiser": "none",
             "input_filter": "none", "loss": losses[0], "crafting": space.choices("crafting")[0]}
    made = [Genome.of(settled({**plain, **size, **recipe})) for size in ({}, largest) for recipe in ({}, costly)]
    return list(dict.fromkeys(made))
