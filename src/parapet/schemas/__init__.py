"""JSON Schemas of the files that other programs rely on: genome, archive record, evaluation, front.

Blocks that several of them share are in `definitions.schema.json`. The schema of a genome follows from the genes of the
catalogue: `python -m parapet.schemas` writes `genome.schema.json`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs

from parapet.catalogue.genes import GENES
from parapet.quoting import name as named
from parapet.quoting import words
from parapet.schemas.genome import genome_schema

NAMES = ("genome", "archive_record", "evaluation", "front")


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) called `name`, one of `NAMES`, which includes all that it refers to."""
    return _schema(name, _declared())


def _declared() -> int:
    """The number of genes and words, which grows with every plugin: the key of the caches."""
    return sum(1 + len(gene.words or ()) for gene in GENES.values())


@cache
def _schema(name: str, declared: int) -> dict[str, Any]:
    genome = genome_schema()
    if name == "genome":
        return genome
    shared = _read("definitions")["$defs"]
    return {**_inside(_read(name)), "$defs": {**_inside(shared), "genome": _without_heading(genome)}}


def validate(name: str, value: Any) -> None:
    """Raise jsonschema.ValidationError where `value` is not valid."""
    if not _holds(name, value):
        import jsonschema  # takes a tenth of a second, and its message is rarely needed

        jsonschema.Draft202012Validator(schema(name)).validate(value)


def problem(name: str, value: Any) -> str | None:
    """Where and how `value` violates the schema, in a few words; None where it is valid."""
    if _holds(name, value):
        return None
    import jsonschema

    found = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema(name)).iter_errors(value))
    return None if found is None else f"{named(found.json_path)}: {words(found.message)}"


def _holds(name: str, value: Any) -> bool:
    """Whether `value` is valid, checked by the Rust implementation in a hundredth of the time of `jsonschema`, which is
    only asked for the message about an invalid value."""
    try:
        return _compiled(name, _declared()).is_valid(value)
    except ValueError:  # not JSON
        return False


@cache
def _compiled(name: str, declared: int) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema(name))


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        resources.files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def _inside(value: Any) -> Any:
    """`value` with references to other files replaced by references to `$defs`."""
    if isinstance(value, list):
        return [_inside(item) for item in value]
    if not isinstance(value, dict):
        return value
    target = value.get("$ref")
    if not isinstance(target, str):
        return {key: _inside(item) for key, item in value.items()}
    place = "#/$defs/genome" if target == "genome.schema.json" else target.removeprefix("definitions.schema.json")
    return {**value, "$ref": place}


def _without_heading(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("$schema", "title")}
