"""JSON Schemas of the files that other programs rely on: genome, archive record, evaluation, front.

Blocks that several of them have lie in `definitions.schema.json`, and a genome is what the catalogue's genes say:
`genome.schema.json` is written from them by `python -m parapet.schemas`.
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
    """The JSON Schema (draft 2020-12) called `name`, one of `NAMES`, with all that it refers to inside it."""
    return _schema(name, _declared())


def _declared() -> int:
    """How much the catalogue holds: a plugin that is registered later adds words and genes."""
    return sum(1 + len(gene.words or ()) for gene in GENES.values())


@cache
def _schema(name: str, declared: int) -> dict[str, Any]:
    genome = genome_schema()
    if name == "genome":
        return genome
    shared = _read("definitions")["$defs"]
    return {**_inside(_read(name)), "$defs": {**_inside(shared), "genome": _without_heading(genome)}}


def validate(name: str, value: Any) -> None:
    """Raise jsonschema.ValidationError where `value` does not meet the schema."""
    if not _holds(name, value):
        import jsonschema  # a tenth of a second, for words that are hardly ever wanted

        jsonschema.Draft202012Validator(schema(name)).validate(value)


def problem(name: str, value: Any) -> str | None:
    """In what `value` does not meet the schema, and where, in a few words; None where it does."""
    if _holds(name, value):
        return None
    import jsonschema

    found = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema(name)).iter_errors(value))
    return None if found is None else f"{named(found.json_path)}: {words(found.message)}"


def _holds(name: str, value: Any) -> bool:
    """Whether `value` meets the schema, as a program in Rust sees it in a hundredth of the time; the words for what it
    does not meet are those of `jsonschema`, which has the last one too."""
    try:
        return _compiled(name, _declared()).is_valid(value)
    except ValueError:  # what is no JSON at all
        return False


@cache
def _compiled(name: str, declared: int) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema(name))


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        resources.files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def _inside(value: Any) -> Any:
    """The same with references to other files turned into references to `$defs`."""
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
