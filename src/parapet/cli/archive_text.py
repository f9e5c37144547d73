"""Candidates of the archive in words: as a row of a table, in full, and compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from parapet.catalogue.genes import GENES
from parapet.catalogue.quantities import OBJECTIVES
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.report.wording import attacks, count, duration, interval, milliseconds, percent, with_interval

if TYPE_CHECKING:
    from parapet.store.records import Record

HEADINGS = ("id", "rung", "epochs", "generation", "status", "clean", "robust", "95 % interval", "FLOPs", "p50 ms",
            "train s", "what it is")
_CRAFTING = {"own": "the genome's own attack", "n_fgsm": "N-FGSM"}
_FORMATS = {"share": percent, "count": count, "ms": milliseconds}


def row(record: Record) -> list[str]:
    """The cells under `HEADINGS`; empty where nothing was measured."""
    validation, latency, seconds = record.validation, record.latency_ms, record.training_seconds
    measured = ["", "", ""] if validation is None else [
        percent(validation.clean_accuracy), percent(validation.robust_accuracy),
        interval(validation.robust_interval)]
    return [record.id, _rung(record), str(record.fidelity.epochs), str(record.generation), record.status,
            *measured, "" if record.flops is None else count(record.flops),
            "" if latency is None else f"{latency['p50']:.3g}", "" if seconds is None else f"{seconds:.1f}",
            str(genome_of(record))]


def genome_of(record: Record) -> Genome:
    """The genome of an archive record. Raises InputError, which names the record, if it cannot be read."""
    try:
        return Genome.from_dict(dict(record.genes), where=f"genome of {record.id}")
    except InputError as error:
        raise InputError(f"{error} If a plugin declares it, list that plugin under `plugins` in the params.yaml of "
                         "this folder, or in PARAPET_PLUGINS.") from None


def objective_names(names: Sequence[str]) -> str:
    """`clean accuracy, robust accuracy and FLOPs`."""
    return _listed([OBJECTIVES[name].words for name in names])


def in_full(record: Record, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Everything in a record as (label, text); `records` is where its parent is looked up."""
    genome, fidelity, validation = genome_of(record), record.fidelity, record.validation
    yield "what it is", str(genome)
    yield "status", record.status
    if not record.is_feasible:
        yield "reason", _reason(record)
    if record.violation:
        yield "violation", f"{record.violation:.4g} away from feasible"
    yield "fidelity", (f"rung {fidelity.rung}{' (full)' if fidelity.full else ''}: {fidelity.epochs} epochs "
                       f"on {percent(fidelity.data_share)} of the images, {_CRAFTING[fidelity.crafting]}")
    yield "trained from", _origin(record, records)
    yield "generation", str(record.generation)
    yield "repeat", str(record.repeat)
    if validation is not None:
        yield "clean", with_interval(validation.clean_accuracy, validation.clean_interval, validation.n)
        yield "robust", with_interval(validation.robust_accuracy, validation.robust_interval, validation.n)
        yield "evaluations", str(record.evaluations)
        yield from attacks(validation.attacks)
    if (audit := record.audit) is not None:
        yield "audit", "; ".join([audit["verdict"], *audit["reasons"]])
    if record.flops is not None:
        yield "cost", f"{record.flops:,} FLOPs an image, {record.params:,} parameters"
    if (latency := record.latency_ms) is not None:
        yield "latency", (f"{milliseconds(latency['p50'])} at the median, {milliseconds(latency['p90'])} p90, "
                          f"{milliseconds(latency['p99'])} p99; batch {latency['batch']}, threads "
                          f"{latency['threads']}, {latency['machine']}")
    if (seconds := record.training_seconds) is not None and (flops := record.training_flops) is not None:
        yield "training", f"{duration(seconds)}, {count(flops)}FLOPs"
    yield "seed", str(record.seed)
    yield "training key", record.training_key
    yield "evaluation key", record.evaluation_key
    yield from ((name, str(genome[name])) for name in GENES)


def relatives(record: Record, records: Sequence[Record]) -> Iterator[tuple[str, Record]]:
    """(relation to `record`, record) of its parent, its children, and other trainings of the same genome."""
    for other in records:
        if other.id == record.id:
            continue
        if _is_parent(other, record):
            yield "parent", other
        elif other.parent is not None and _is_parent(record, other):
            yield f"child, {other.parent.kind}", other
        elif other.genes == record.genes:
            yield "same genome", other


def differing_genes(records: Sequence[Record]) -> list[str]:
    """The names of the genes in which the records are not all equal."""
    genomes = [genome_of(record) for record in records]
    return [name for name in GENES if len({genome[name] for genome in genomes}) > 1]


def verdict(one: Record, other: Record, names: Sequence[str]) -> str:
    """A sentence: whether two candidates are ties, one dominates the other, or each is better in something.

    Both have a `validation`. Only those of the objectives `names` count in which both were measured. Ties are those of
    `front.ties`.
    """
    from parapet.search.front import measured_objectives, overlap, ties

    lines = one.to_json(), other.to_json()
    pair, tied = f"{one.id} and {other.id}", bool(ties(lines[0], [lines[1]]))
    better: dict[str, list[str]] = {one.id: [], other.id: []}
    for name in names:
        values = measured_objectives(one, [name]), measured_objectives(other, [name])
        doubtful = name.endswith("_error") and overlap(*lines, name.removesuffix("_error"))
        if values[0] is None or values[1] is None or values[0] == values[1] or (tied and doubtful):
            continue
        winner, loser = (one, other) if values[0] < values[1] else (other, one)
        better[winner.id].append(f"{OBJECTIVES[name].words} ({_value(winner, name)} against {_value(loser, name)}"
                                    f"{', inside the noise' if doubtful else ''})")
    parts = [f"{name} is better in {_listed(what)}" for name, what in better.items() if what]
    if tied:
        text = "; ".join([f"{pair} are ties: their 95 % intervals of clean and of robust accuracy overlap", *parts])
    elif len(parts) == 1:
        winner, loser = (one, other) if better[one.id] else (other, one)
        text = f"{winner.id} dominates {loser.id}: better in {_listed(better[winner.id])}"
    else:
        text = ", ".join(parts)
    if one.fidelity == other.fidelity:
        return f"{text}."
    return (f"{text}. But their fidelities differ ({_rung(one)} and {_rung(other)}): with the same training the result "
            "may be another.")


def infeasibility(record: Record) -> str | None:
    """A sentence for an infeasible candidate, None for a feasible one."""
    if record.is_feasible:
        return None
    return (f"{record.id} is infeasible{' and was never measured' if record.validation is None else ''}: "
            f"{_reason(record)}")


def _rung(record: Record) -> str:
    """`full`, or the number of the rung below it."""
    return "full" if record.fidelity.full else str(record.fidelity.rung)


def _reason(record: Record) -> str:
    """In one line, with a full stop."""
    text = " ".join((record.reason or "no reason is recorded").split())
    return text if text.endswith(".") else f"{text}."


def _value(record: Record, name: str) -> str:
    quantity = OBJECTIVES[name]
    value = quantity.of(record)
    return "not measured" if value is None else _FORMATS.get(quantity.unit, "{:.4g}".format)(value)


def _is_parent(parent: Record, child: Record) -> bool:
    return child.parent is not None and child.parent.training_key == parent.training_key


def _origin(record: Record, records: Sequence[Record]) -> str:
    if (parent := record.parent) is None:
        return "scratch"
    known = any(_is_parent(other, record) for other in records)
    return (f"{'the checkpoint' if parent.kind == 'promoted' else 'weights'} of "
            f"{parent.training_key[:len(record.id)]}{'' if known else ', which is not in this archive'}")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
