"""Schemas: the genome's is that of the genes, references resolve, and each file can be read by other programs."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import referencing

from parapet import schemas
from parapet.catalogue.genes import GENES
from parapet.genome import Genome
from parapet.schemas.genome import genome_schema

FOLDER = Path(schemas.__file__).parent
FILES = {path.name: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}


def test_the_file_of_the_genome_is_what_the_genes_say() -> None:
    assert FILES["genome.schema.json"] == json.loads(json.dumps(genome_schema())), "run python -m parapet.schemas"


def test_a_genome_meets_its_schema_and_one_out_of_range_does_not() -> None:
    values = Genome().canonical().to_dict()
    assert schemas.problem("genome", values) is None
    for name, gene in GENES.items():
        wrong = "wgan" if gene.known else gene.highest * 2
        assert name in schemas.problem("genome", values | {name: wrong})
    assert "unexpected" in schemas.problem("genome", values | {"colour": 1})


@pytest.mark.parametrize("name", schemas.NAMES)
def test_the_files_say_by_themselves_what_the_library_checks(name: str) -> None:
    registry = referencing.Registry().with_resources(
        (file, referencing.Resource.from_contents(contents)) for file, contents in FILES.items())
    validator = jsonschema.Draft202012Validator(FILES[f"{name}.schema.json"], registry=registry)
    jsonschema.Draft202012Validator.check_schema(FILES[f"{name}.schema.json"])
    genome = Genome().canonical().to_dict()
    for value in (genome, {"genome": genome | {"width": 0}}, {}):
        # Of values that meet neither, both name the same places.
        ours = sorted(error.json_path for error in
                      jsonschema.Draft202012Validator(schemas.schema(name)).iter_errors(value))
        assert sorted(error.json_path for error in validator.iter_errors(value)) == ours


def test_no_block_is_written_twice() -> None:
    seen: dict[str, str] = {}
    for file, contents in FILES.items():
        for place, block in _blocks(contents, file):
            text = json.dumps(block, sort_keys=True)
            if len(text) > 400:
                assert seen.setdefault(text, place) == place, f"{place} is {seen[text]} again"


def _blocks(value: object, place: str):
    if isinstance(value, dict):
        yield place, value
        for key, item in value.items():
            yield from _blocks(item, f"{place}/{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _blocks(item, f"{place}/{number}")
