"""Candidates of the archive in words: as a row, at full length, and against another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parapet.catalogue.genes import GENES
from parapet.catalogue.quantities import OBJECTIVES
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.report.wording import attacks, count, duration, interval, milliseconds, percent, with_interval

HEADINGS = ("id", "rung", "epochs", "generation", "status", "clean", "robust", "95 % interval", "FLOPs", "p50 ms",
            "train s", "what it is")
_CRAFTING = {"own": "the genome's own attack", "n_fgsm": "N-FGSM"}


def row(record: dict[str, Any]) -> list[str]:
    """The cells under `HEADINGS`; empty where nothing was measured."""
    validation, latency, seconds = record["validation"], record["latency_ms"], record["training_seconds"]
    measured = ["", "", ""] if validation is None else [
        percent(validation["clean_accuracy"]), percent(validation["robust_accuracy"]),
        interval(validation["robust_interval"])]
    return [record["id"], rung(record), str(record["fidelity"]["epochs"]), str(record["generation"]), record["status"],
            *measured, "" if record["flops"] is None else count(record["flops"]),
            "" if latency is None else f"{latency['p50']:.3g}", "" if seconds is None else f"{seconds:.1f}",
            description(record)]


def rung(record: dict[str, Any]) -> str:
    """`full`, or the number of the rung below it."""
    return "full" if record["fidelity"]["full"] else str(record["fidelity"]["rung"])


def description(record: dict[str, Any]) -> str:
    """The genome in a few words."""
    return str(genome_of(record))


def genome_of(record: dict[str, Any]) -> Genome:
    """The genome of an archive record; InputError names the record where it cannot be read."""
    try:
        return Genome.from_dict(record["genome"], where=f"genome of {record['id']}")
    except InputError as error:
        raise InputError(f"{error} Where a plugin declares it, list that under `plugins` in the params.yaml of this "
                         "folder, or in PARAPET_PLUGINS.") from None


def objective_names(names: Sequence[str]) -> str:
    """`clean accuracy, robust accuracy and FLOPs`."""
    return _listed([OBJECTIVES[name].words for name in names])


def full_length(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Everything of a record as (label, text); `records` is where its parent may be found."""
    validation, fidelity, latency = record["validation"], record["fidelity"], record["latency_ms"]
    genome = genome_of(record)
    pairs = [("what it is", description(record)), ("status", record["status"])]
    if record["status"] != "feasible":
        pairs.append(("reason", _reason(record)))
    if record["violation"]:
        pairs.append(("violation", f"{record['violation']:.4g} away from feasible"))
    pairs += [("fidelity", f"rung {fidelity['rung']}{' (full)' if fidelity['full'] else ''}: {fidelity['epochs']} "
                           f"epochs on {percent(fidelity['data_share'])} of the images, "
                           f"{_CRAFTING[fidelity['crafting']]}"),
              ("begun from", _parent(record, records)), ("generation", str(record["generation"])),
              ("repeat", str(record["repeat"]))]
    if validation is not None:
        pairs += [(name, with_interval(validation[f"{name}_accuracy"], validation[f"{name}_interval"], validation["n"]))
                  for name in ("clean", "robust")]
        pairs += [("looks", str(record["looks"])),
                  *attacks(validation["attacks"])]
    if record["audit"] is not None:
        pairs.append(("audit", "; ".join([record["audit"]["verdict"], *record["audit"]["reasons"]])))
    if record["flops"] is not None:
        pairs.append(("cost", f"{record['flops']:,} FLOPs an image, {record['params']:,} parameters"))
    if latency is not None:
        pairs.append(("latency", f"{milliseconds(latency['p50'])} at the median, {milliseconds(latency['p90'])} p90, "
                                 f"{milliseconds(latency['p99'])} p99; batch {latency['batch']}, threads "
                                 f"{latency['threads']}, {latency['machine']}"))
    if record["training_seconds"] is not None:
        pairs.append(("training", f"{duration(record['training_seconds'])}, {count(record['training_flops'])}FLOPs"))
    return [*pairs, ("seed", str(record["seed"])), ("training key", record["training_key"]),
            ("evaluation key", record["evaluation_key"]),
            *((name, str(genome[name])) for name in GENES)]


def relatives(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """(what it is to `record`, record) for its parent, its children, and other trainings of the same genome."""
    found = []
    for other in records:
        if other["id"] == record["id"]:
            continue
        if _is_parent(other, record):
            found.append(("parent", other))
        elif _is_parent(record, other):
            found.append((f"child, {other['parent']['kind']}", other))
        elif other["genome"] == record["genome"]:
            found.append(("same genome", other))
    return found


def differing_genes(records: Sequence[dict[str, Any]]) -> list[str]:
    """The names of the genes in which the records are not all equal."""
    genomes = [genome_of(record) for record in records]
    return [name for name in GENES if len({genome[name] for genome in genomes}) > 1]


def verdict(one: dict[str, Any], other: dict[str, Any], names: Sequence[str]) -> str:
    """A sentence: whether two candidates are ties, one dominates the other, or each is better in something.

    Both have a `validation`; the sentence is over those of the objectives `names` that both were measured in. Ties are
    as in `front.ties`.
    """
    from parapet.search.front import measured_objectives, overlap, ties
    from parapet.store.records import Record

    first, second = Record.from_json(one), Record.from_json(other)
    pair, tied = f"{one['id']} and {other['id']}", bool(ties(one, [other]))
    better: dict[str, list[str]] = {one["id"]: [], other["id"]: []}
    for name in names:
        ours, theirs = measured_objectives(first, [name]), measured_objectives(second, [name])
        doubtful = name.endswith("_error") and overlap(one, other, name.removesuffix("_error"))
        if ours is None or theirs is None or ours == theirs or (tied and doubtful):
            continue
        winner, loser = (one, other) if ours < theirs else (other, one)
        better[winner["id"]].append(f"{OBJECTIVES[name].words} ({_value(winner, name)} against {_value(loser, name)}"
                                    f"{', inside the noise' if doubtful else ''})")
    parts = [f"{name} is better in {_listed(what)}" for name, what in better.items() if what]
    if tied:
        text = "; ".join([f"{pair} are ties: their 95 % intervals of clean and of robust accuracy overlap", *parts])
    elif len(parts) == 1:
        winner, loser = (one, other) if better[one["id"]] else (other, one)
        text = f"{winner['id']} dominates {loser['id']}: better in {_listed(better[winner['id']])}"
    else:
        text = ", ".join(parts)
    return f"{text}.{_fidelities(one, other)}"


def shortcomings(record: dict[str, Any]) -> str | None:
    """A sentence for an infeasible candidate, None for a feasible one."""
    if record["status"] == "feasible":
        return None
    return (f"{record['id']} is infeasible{' and was never measured' if record['validation'] is None else ''}: "
            f"{_reason(record)}")


def _reason(record: dict[str, Any]) -> str:
    """In one line, with a full stop."""
    text = " ".join((record["reason"] or "no reason is recorded").split())
    return text if text.endswith(".") else f"{text}."


def _fidelities(one: dict[str, Any], other: dict[str, Any]) -> str:
    if one["fidelity"] == other["fidelity"]:
        return ""
    return (f" But their fidelities differ ({rung(one)} and {rung(other)}), so that this says little of what they "
            "would be with the same training.")


def _value(record: dict[str, Any], name: str) -> str:
    quantity = OBJECTIVES[name]
    value = quantity.of(record)
    if value is None:
        return "not measured"
    return {"share": percent, "count": count, "ms": milliseconds}.get(quantity.unit, "{:.4g}".format)(value)


def _is_parent(parent: dict[str, Any], child: dict[str, Any]) -> bool:
    return child["parent"] is not None and child["parent"]["training_key"] == parent["training_key"]


def _parent(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    if record["parent"] is None:
        return "scratch"
    name = record["parent"]["training_key"][:len(record["id"])]
    known = any(_is_parent(other, record) for other in records)
    return (f"{'the checkpoint' if record['parent']['kind'] == 'promoted' else 'weights'} of {name}"
            f"{'' if known else ', which is not in this archive'}")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
