"""The JSON Schema of a genome, from the genes of the catalogue."""

from __future__ import annotations

from typing import Any

from parapet.catalogue.genes import GENES, Gene


def genome_schema() -> dict[str, Any]:
    """Every gene with its words or its range; required are those without a neutral value that always have an effect."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A point of the search space",
        "type": "object",
        "properties": {name: _values(gene) for name, gene in GENES.items()},
        "required": [name for name, gene in GENES.items() if gene.neutral is None and gene.has_effect is None],
        "additionalProperties": False,
    }


def _values(gene: Gene) -> dict[str, Any]:
    if gene.words is not None:
        return {"enum": list(gene.known)}
    kind = "integer" if isinstance(gene.choices[0], int) else "number"
    return {"type": kind, "minimum": gene.low, "maximum": gene.highest}
