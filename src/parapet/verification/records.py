"""Verifies the records of an archive, each by itself and against its files in the cache."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema.exceptions import ValidationError, best_match

from parapet import schemas
from parapet.disk import sealed
from parapet.errors import InputError, is_of_the_machine, is_out_of_memory, told
from parapet.genome import Genome
from parapet.quoting import name as named
from parapet.quoting import quote, words
from parapet.store.consistency import problems as contradictions
from parapet.store.keys import short_id

# The number of digits of the training key in the name of a candidate's folder in the cache.
_FOLDER_LENGTH = 32
_LONGEST_QUOTE = 160


@dataclass
class Findings:
    """The numbers of records, trainings and weights checked, and one line for each problem."""

    records: int = 0
    trainings: int = 0
    weights: int = 0
    problems: list[str] = field(default_factory=list)


def verify(records: Sequence[dict[str, Any]], cache: Path,
           progress: Callable[[int], None] = lambda done: None) -> Findings:
    """Verify `records`, the lines of a journal in their order, and their files in the folder `cache`.

    A record has to meet its schema; its id has to be the beginning of its training key; its genome has to be canonical;
    no other line may have the same id and the same number of evaluations (`looks`). In cache/candidates/ training.json
    has to have the record's training key; the results of attacks and exports have to have their checksums, their files,
    and numbers that follow from the outcomes; model.safetensors has to be loadable, with the record's genome. A missing
    file is no problem. `progress` is called with the number of records done.
    """
    findings, seen = Findings(), set()
    first_lines: dict[tuple[Any, ...], int] = {}
    for number, record in enumerate(records, 1):
        findings.records += 1
        found = list(_own(record))
        sound = not found
        if sound:
            entry = (record["id"], record["looks"], record["final"])
            if entry in first_lines:
                found.append(f"line {first_lines[entry]} has the same id and as many looks ({record['looks']})")
            first_lines.setdefault(entry, number)
            found += _ids_and_genome(record)
            if record["training_key"] not in seen:
                seen.add(record["training_key"])
                found += _stored(record, cache / "candidates" / record["training_key"][:_FOLDER_LENGTH], findings)
        findings.problems += [f"line {number} ({named(record.get('id'))}): {text}" for text in found]
        progress(number)
    return findings


def _own(record: dict[str, Any]) -> Iterator[str]:
    try:
        schemas.validate("archive_record", record)
    except ValidationError as error:
        # The error of a nullable value says only that no alternative fits; its causes say why.
        cause = best_match([error])
        yield f"does not meet the schema at {named(cause.json_path)}: {_short(cause.message)}"


def _ids_and_genome(record: dict[str, Any]) -> Iterator[str]:
    if record["id"] != short_id(record["training_key"]):
        yield ("the id is not the beginning of the training key "
               f"{named(short_id(record['training_key']))}...")
    try:
        canonical = Genome.from_dict(record["genome"]).to_dict()
    except InputError as error:
        yield str(error)
        return
    odd = [f"{name} is {quote(value)} and has to be {canonical.get(name)!r}" for name, value in record["genome"].items()
           if value != canonical.get(name)]
    if odd:
        yield f"the genome is not canonical: {words(', '.join(odd))}"


def _stored(record: dict[str, Any], folder: Path, findings: Findings) -> Iterator[str]:
    training, weights = folder / "training.json", folder / "model.safetensors"
    if training.exists():
        findings.trainings += 1
        found = yield from _result(training)
        if found is not None and found.get("key") != record["training_key"]:
            yield f"{training} is of another training, {_short(str(found.get('key')))}"
    if weights.exists():
        findings.weights += 1
        yield from _weights(record, weights)
    for path in sorted([*folder.glob("attacks-*/attack_evaluation.json"), *folder.glob("export-*/export.json")]):
        found = yield from _result(path)
        if found is None or found.get("status") != "done" or "evaluation" not in found:
            continue
        for text in contradictions(found["evaluation"]):
            yield f"{path}: {text}"
        shown = record["validation"]
        if record["looks"] == 1 and found["key"] == record["evaluation_key"] and shown is not None and any(
                shown[name] != found["evaluation"][name] for name in ("n", "clean_accuracy", "robust_accuracy")):
            yield f"{path} has other accuracies than the record"


def _result(path: Path) -> Generator[str, None, dict[str, Any] | None]:
    """Yields the problems of a step's result and of the files beside it; returns the result, None if unreadable."""
    try:
        found = sealed.look(path)
        sealed.check_fields(found, {"digests": dict})
    except (OSError, sealed.Damaged) as error:
        yield f"{path} {'cannot be read' if is_of_the_machine(error) else 'is damaged'} ({_short(str(error))})"
        return None
    if (problem := sealed.problem(path.parent, found["digests"])) is not None:
        yield f"{path.parent}: {problem}"
    return found


def _weights(record: dict[str, Any], path: Path) -> Iterator[str]:
    from parapet.models import load  # imports torch, which is not needed if the cache has no weights

    try:
        genome = load(path).genome
    except InputError as error:
        yield str(error)
    except Exception as error:  # any error of torch while loading is a problem of the file
        if is_out_of_memory(error):
            raise
        if (sentence := told(error)) is not None:
            yield str(sentence)
            return
        yield f"{path} cannot be loaded ({type(error).__name__}: {_short(str(error))})"
    else:
        if genome.to_dict() != record["genome"]:
            yield f"{path} holds another genome: {genome}"


def _short(text: str) -> str:
    line = words(text)
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}..."
