"""The data classes of a search: requests for measurements and their results, each with its JSON form.

A `Request` asks for a candidate, a `Proposal` is a request with its keys, and a `Record` is a line of the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome, Point, point
from parapet.store import archive

# The identity of a line of the archive: the candidate's id, the number of evaluations, and `final`.
Line = tuple[str, int, bool]


@dataclass(frozen=True)
class Parent:
    """The candidate whose weights initialise a training.

    kind: "promoted" from the rung below, or "inherited" from a member of the population. epochs: how many of the
    child's epochs the parent's training replaces.
    """

    training_key: str
    kind: str
    epochs: int


@dataclass(frozen=True)
class Request:
    """One candidate to be measured.

    `parent` is None for training from scratch. `repeat` counts trainings of the same genome with other seeds, from 0.
    `evaluation` counts evaluations of the same training, from 1. `final` marks the final phase of the search, which is
    not part of a search with a larger budget.
    """

    genome: Genome
    fidelity: Fidelity
    parent: Parent | None = None
    repeat: int = 0
    evaluation: int = 1
    final: bool = False

    def to_json(self) -> dict[str, Any]:
        """The strict JSON that state.json contains."""
        return {"genome": self.genome.to_dict(), "fidelity": self.fidelity.to_dict(),
                "parent": self.parent and dict(vars(self.parent)), "repeat": self.repeat, "look": self.evaluation,
                "final": self.final}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """The request from the output of `to_json`."""
        return cls(**_request_fields(values))


@dataclass(frozen=True, kw_only=True)
class Proposal(Request):
    """A request with everything that a worker needs: an entry of proposals.json.

    id: the first digits of the training key. seed: for the training. fingerprint: that of the prepared data.
    undefended: whether it is the reference network that the front is compared with, trained without attacks.
    """

    id: str
    generation: int
    seed: int
    fingerprint: str
    training_key: str
    evaluation_key: str
    undefended: bool = False

    @classmethod
    def of(cls, request: Request, **own: Any) -> Proposal:
        """The `request` as a proposal with its `own` fields."""
        return cls(**{item.name: getattr(request, item.name) for item in fields(Request)}, **own)

    @property
    def line(self) -> Line:
        """The identity of its line in the archive."""
        return self.id, self.evaluation, self.final

    def to_json(self) -> dict[str, Any]:
        """The strict JSON that proposals.json contains."""
        return {"id": self.id, "generation": self.generation, **super().to_json(), "seed": self.seed,
                "fingerprint": self.fingerprint, "training_key": self.training_key,
                "evaluation_key": self.evaluation_key, **({"undefended": True} if self.undefended else {})}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Proposal:
        """The proposal from the output of `to_json`."""
        own = {name: values[name] for name in ("id", "generation", "seed", "fingerprint", "training_key",
                                               "evaluation_key")}
        return cls(**_request_fields(values), **own, undefended=values.get("undefended", False))


@dataclass(frozen=True)
class Accuracies:
    """Accuracies in [0, 1] on `n` images of one split, with 95 % Wilson intervals.

    attacks: for each attack {alone, left}: the accuracy under this attack alone, and under all attacks up to this one.
    """

    n: int
    clean_accuracy: float
    clean_interval: list[float]
    robust_accuracy: float
    robust_interval: list[float]
    attacks: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Record:
    """The result of a candidate: a line of the archive. The docs and its JSON Schema describe each field.

    genes: the genome as stored. evaluations: the number of evaluations of which `validation` is the mean. violation:
    the constraint violation >= 0 of an infeasible candidate, None where it was not measured.
    """

    id: str
    training_key: str
    evaluation_key: str
    genes: Mapping[str, Any]
    generation: int
    seed: int
    fidelity: Fidelity
    parent: Parent | None
    repeat: int
    evaluations: int
    final: bool
    status: str
    reason: str | None
    violation: float | None
    validation: Accuracies | None
    audit: Mapping[str, Any] | None
    flops: int | None
    params: int | None
    training_seconds: float | None
    training_flops: int | None
    latency_ms: Mapping[str, Any] | None

    @cached_property
    def genome(self) -> Genome:
        """The genome. Raises InputError where it has genes that this installation does not know."""
        return Genome.from_dict(dict(self.genes))

    @cached_property
    def point(self) -> Point:
        """The genome as a key of dicts and sets, the same for all trainings of it."""
        return point(self.genes)

    @property
    def line(self) -> Line:
        """The identity of this line in the archive."""
        return self.id, self.evaluations, self.final

    @property
    def is_feasible(self) -> bool:
        """Whether the candidate meets every constraint."""
        return self.status == "feasible"

    @property
    def request(self) -> Request:
        """The request that this record answers."""
        return Request(self.genome, self.fidelity, self.parent, self.repeat, self.evaluations, self.final)

    def proposal(self, fingerprint: str, *, undefended: bool = False) -> Proposal:
        """The proposal that this record answers, on the data of this `fingerprint`."""
        return Proposal.of(self.request, id=self.id, generation=self.generation, seed=self.seed,
                           fingerprint=fingerprint, training_key=self.training_key,
                           evaluation_key=self.evaluation_key, undefended=undefended)

    def to_json(self) -> dict[str, Any]:
        """The field `record` of its line, as the JSON Schema defines it."""
        return {"schema_version": archive.SCHEMA_VERSION, "id": self.id, "training_key": self.training_key,
                "evaluation_key": self.evaluation_key, "genome": self.genes, "generation": self.generation,
                "seed": self.seed, "fidelity": self.fidelity.to_dict(),
                "parent": self.parent and dict(vars(self.parent)), "repeat": self.repeat, "looks": self.evaluations,
                "final": self.final, "status": self.status, "reason": self.reason, "violation": self.violation,
                "validation": self.validation and dict(vars(self.validation)), "audit": self.audit, "flops": self.flops,
                "params": self.params, "training_seconds": self.training_seconds,
                "training_flops": self.training_flops, "latency_ms": self.latency_ms}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """The record from a line's field `record` in the current schema version, as `archive.read` returns it. Raises
        KeyError or TypeError where a field is missing or has another form."""
        return cls(**{item.name: line[_WRITTEN.get(item.name, item.name)] for item in fields(cls)} | {
            "fidelity": Fidelity.from_dict(line["fidelity"]), "parent": line["parent"] and Parent(**line["parent"]),
            "validation": line["validation"] and Accuracies(**line["validation"])})


# Fields that have another name in the archive file.
_WRITTEN = {"genes": "genome", "evaluations": "looks"}


def read(path: Path) -> list[Record]:
    """All records of the archive at `path`, in the order of the file; none where there is no file.

    Raises InputError where it is damaged (`archive.read`), or where a record lacks a field.
    """
    return parsed(path, archive.read(path))


def parsed(path: Path, lines: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records of `lines`, which `archive` read from `path`. Raises InputError where one lacks a field."""
    try:
        return [Record.from_json(line) for line in lines]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: a record has another form than its schema version says "
                         f"({type(error).__name__}: {error}); {archive.REMEDY}.") from None


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to the archive at `path`, as `archive.append` does."""
    archive.append(path, [record.to_json() for record in records])


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per candidate: of several records with one id the one with the most evaluations.

    It has the position and the generation of the first of them; with equal numbers of evaluations the first is kept.
    """
    kept: dict[str, Record] = {}
    for record in records:
        known = kept.get(record.id)
        if known is None:
            kept[record.id] = record
        elif record.evaluations > known.evaluations:
            kept[record.id] = replace(record, generation=known.generation)
    return list(kept.values())


def _request_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"genome": Genome.from_dict(values["genome"]), "fidelity": Fidelity.from_dict(values["fidelity"]),
            "parent": values["parent"] and Parent(**values["parent"]), "repeat": values["repeat"],
            "evaluation": values["look"], "final": values["final"]}
