"""Estimates a candidate's objectives at full training from its rung, and how reliable these estimates are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from parapet.fidelity import Fidelity
from parapet.genome import Genome, Point, point
from parapet.search.evolution import Evaluated
from parapet.search.front import measured_objectives, rank_correlation
from parapet.store.records import Record

# The violation of a candidate whose audit failed: more training does not make it feasible.
HOPELESS = 1.0
# With more records, on small images, the surrogate would take longer than the trainings that it saves.
_REMEMBERED = 1000
_ACCURACIES = ("clean_error", "robust_error")


def at_full_fidelity(genomes: Sequence[Genome], records: Sequence[Record], ladder: list[Fidelity],
                     names: Sequence[str]) -> dict[Genome, Evaluated]:
    """Objectives and violation of each of `genomes`, from its record at the highest rung, corrected to full fidelity.

    Genomes without a record are left out.

    Training lowers the errors of all candidates by about the same amount. The median change of the promoted candidates
    is therefore added to the objectives of those that were not promoted. Without this correction every promoted
    candidate would dominate every new one.
    """
    full, best = len(ladder) - 1, _highest(records)
    shifts = {rung: _shift(records, rung, full, names) for rung in range(full)}
    found: dict[Genome, Evaluated] = {}
    for genome in genomes:
        record = best.get(point(genome.to_dict()))
        if record is None:
            continue
        values = measured_objectives(record, names)
        if values is None or record.violation is None:
            found[genome] = (None, 0.0)
            continue
        shift = shifts.get(record.fidelity.rung, [0.0] * len(names))
        moved = [min(1.0, max(0.0, value + change)) if name in _ACCURACIES else value
                 for name, value, change in zip(names, values, shift)]
        violation = record.violation
        if 0 < violation < HOPELESS:  # clean accuracy is below the minimum, and more training raises it
            violation = max(0.0, violation + shift[list(names).index("clean_error")])
        found[genome] = (moved, violation)
    return found


def history(records: Sequence[Record], rung: int, names: Sequence[str],
            most: int = _REMEMBERED) -> list[tuple[Genome, list[float]]]:
    """The training data of a surrogate: measured genomes and their objectives at one rung, oldest first, at most the
    newest `most`."""
    found: list[tuple[Genome, list[float]]] = []
    for record in reversed(records[-_REMEMBERED:]):
        if len(found) == most:
            break
        if record.fidelity.rung == rung and record.repeat == 0 \
                and (values := measured_objectives(record, names)) is not None:
            found.append((record.genome, values))
    return found[::-1]


def agreement(records: Sequence[Record], low: int, high: int) -> dict[str, Any]:
    """{tau, n}: rank correlation of robust accuracy between two rungs, over the n candidates measured at both.

    Only promoted candidates are measured at both rungs. They differ less than all candidates do, so tau tends to
    underestimate the correlation over all candidates.
    """
    pairs = [(one.validation.robust_accuracy, other.validation.robust_accuracy)
             for one, other in _pairs(records, low, high) if one.validation and other.validation]
    return rank_correlation([low for low, _ in pairs], [high for _, high in pairs])


def _shift(records: Sequence[Record], low: int, high: int, names: Sequence[str]) -> list[float]:
    changes = [[after - before for before, after in zip(measured_objectives(one, names) or (),
                                                        measured_objectives(other, names) or ())]
               for one, other in _pairs(records, low, high)]
    columns = list(zip(*(row for row in changes if row)))
    return [statistics.median(column) for column in columns] or [0.0] * len(names)


def _pairs(records: Sequence[Record], low: int, high: int) -> list[tuple[Record, Record]]:
    measured = [record for record in records if record.validation is not None and record.repeat == 0]
    below = {record.point: record for record in measured if record.fidelity.rung == low}
    return [(below[record.point], record) for record in measured
            if record.fidelity.rung == high and record.point in below]


def _highest(records: Sequence[Record]) -> dict[Point, Record]:
    best: dict[Point, Record] = {}
    for record in records:
        known = best.get(record.point)
        if record.repeat == 0 and (known is None or record.fidelity.rung > known.fidelity.rung):
            best[record.point] = record
    return best
