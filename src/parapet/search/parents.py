"""Selects the candidate whose weights a child inherits: the nearest known candidate."""

from __future__ import annotations

from collections.abc import Sequence

from parapet.catalogue.networks import BACKBONES
from parapet.genome import Genome
from parapet.search.space import Space
from parapet.store.records import Record

# Genes of the architecture. The value of inherited weights depends on these far more than on the recipe.
ARCHITECTURE = ("backbone", "width", "depth", "activation", "denoiser", "denoiser_stage", "input_filter")
_RECIPE_SHARE = 0.1


def distance(space: Space[Genome], one: Genome, other: Genome) -> float:
    """The distance >= 0 of two genomes: the sum over genes of 0 or 1 for an unordered gene, and of the index difference
    divided by the largest possible one for an ordered gene. Genes of the recipe have a weight of 0.1."""
    total = 0.0
    for gene, a, b in zip(space.genes, space.encode(one), space.encode(other)):
        apart = abs(int(a) - int(b)) / max(1, len(gene.choices) - 1) if gene.ordered else float(a != b)
        total += apart * (1.0 if gene.name in ARCHITECTURE else _RECIPE_SHARE)
    return total


def inheritable(child: Genome, parent: Genome) -> bool:
    """Whether `child` can use the weights of `parent`: the same family, and for transformers the same width.

    The heads of a transformer share one matrix; a slice of it for another width does not consist of whole heads.
    """
    return child.backbone == parent.backbone and (
        child.width == parent.width or BACKBONES[child.backbone].inherits_widths)


def nearest(space: Space[Genome], child: Genome, records: Sequence[Record]) -> Record | None:
    """The record to inherit from: the nearest feasible, inheritable genome at its highest fidelity; None without one.

    Equal distances are ordered by fidelity, repeat and id, so that the choice does not depend on timing.
    """
    found = [record for record in records if record.is_feasible and inheritable(child, record.genome)]
    return min(found, default=None, key=lambda record: (distance(space, child, record.genome), -record.fidelity.rung,
                                                        record.repeat, record.id))
