"""Whose weights a child begins with: the nearest of the candidates that are known already."""

from __future__ import annotations

from collections.abc import Sequence

from parapet.catalogue.networks import BACKBONES
from parapet.genome import Genome
from parapet.search.space import Space
from parapet.store.records import Record

# Genes that shape the network; what weights are worth to a child depends on them far more than on the recipe.
ARCHITECTURE = ("backbone", "width", "depth", "activation", "denoiser", "denoiser_stage", "input_filter")
_RECIPE_SHARE = 0.1


def distance(space: Space[Genome], one: Genome, other: Genome) -> float:
    """How many genes differ, an ordered one by its steps over their number; genes of the recipe count a tenth."""
    total = 0.0
    for gene, a, b in zip(space.genes, space.encode(one), space.encode(other)):
        apart = abs(int(a) - int(b)) / max(1, len(gene.choices) - 1) if gene.ordered else float(a != b)
        total += apart * (1.0 if gene.name in ARCHITECTURE else _RECIPE_SHARE)
    return total


def inheritable(child: Genome, parent: Genome) -> bool:
    """Whether weights of `parent` mean anything in `child`: the same family, and for transformers the same width.

    The heads of a transformer share one matrix, whose slices are no heads.
    """
    return child.backbone == parent.backbone and (
        child.width == parent.width or BACKBONES[child.backbone].inherits_widths)


def nearest(space: Space[Genome], child: Genome, records: Sequence[Record]) -> Record | None:
    """The record to inherit from: of feasible ones of the same family the nearest genome, at its highest fidelity.

    None where there is none. Equal distances are settled by fidelity, then by id, so that nothing depends on timing.
    """
    found = [record for record in records if record.is_feasible and inheritable(child, record.genome)]
    return min(found, default=None, key=lambda record: (distance(space, child, record.genome), -record.fidelity.rung,
                                                        record.repeat, record.id))
