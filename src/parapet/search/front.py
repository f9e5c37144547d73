"""What the search minimises, the non-dominated front of an archive, its hypervolume, and the order of promotion.

Records are those of `records.latest`: one for each candidate. What compares two candidates by their intervals takes
entries of front.json as well as lines of the archive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import moocore
import numpy as np

from parapet.catalogue.quantities import BOX, OBJECTIVES, Quantity
from parapet.store.records import Record


def objectives(record: Record, names: Sequence[str]) -> list[float] | None:
    """The record's objectives, all minimised, in the order of `names`.

    FLOPs and latency enter as log10 of their number and of milliseconds: dominance is the same, and crowding compares
    ratios. None for an infeasible candidate, and where a number was never measured (latency on a cheap rung).
    """
    return measured_objectives(record, names) if record.is_feasible else None


def measured_objectives(record: Record, names: Sequence[str]) -> list[float] | None:
    """The same for any candidate that was measured, feasible or not; None where one of the numbers is missing."""
    values = _table([record], names)[0]
    return None if np.isnan(values).any() else values.tolist()


def front(records: Sequence[Record], names: Sequence[str], *, rung: int | None = None) -> list[Record]:
    """The feasible records that no other dominates, cheapest first; of equal ones the first.

    Among candidates of full fidelity, or among those of one `rung`: accuracies of different fidelities do not compare.
    """
    candidates = [record for record in records if record.is_feasible
                  and (record.fidelity.full if rung is None else record.fidelity.rung == rung)]
    values = _table(candidates, names)
    measured = np.flatnonzero(~np.isnan(values).any(axis=1))
    members = [candidates[place] for place in measured[_is_nondominated(values[measured])]]
    return sorted(members, key=lambda record: (record.flops, record.id))


def hypervolume(records: Sequence[Record], ideal: Sequence[float], reference: Sequence[float]) -> float:
    """Share of the box from `ideal` to `reference` that the feasible ones of `records` dominate, in [0, 1].

    The box is over (clean error, robust error, log10 FLOPs), whatever the search minimises, so that curves compare.
    """
    return _volume(_inside(records, ideal, reference))


def hypervolume_curve(records: Sequence[Record], ideal: Sequence[float],
                      reference: Sequence[float]) -> list[dict[str, Any]]:
    """One row a generation: {generation, candidates, training_seconds, hypervolume}, of all candidates so far.

    Candidates of every fidelity cost time and are counted; those of full fidelity alone dominate anything.
    """
    generations: dict[int, list[Record]] = {}
    for record in records:
        generations.setdefault(record.generation, []).append(record)
    rows, candidates, seconds, volume, best = [], 0, 0.0, 0.0, np.empty((0, 3))
    for generation, fresh in sorted(generations.items()):
        points = _inside([record for record in fresh if record.fidelity.full], ideal, reference)
        if len(points):
            best = np.concatenate([best, points])
            best = best[_is_nondominated(best)]
            volume = _volume(best)
        candidates += len(fresh)
        seconds += sum(record.training_seconds or 0.0 for record in fresh)
        rows.append({"generation": generation, "candidates": candidates, "training_seconds": seconds,
                     "hypervolume": volume})
    return rows


def ties(member: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids of those of `others` whose 95 % intervals of clean and of robust accuracy both overlap with `member`'s.

    Of none of them can be said whether it is more accurate or more robust than `member`. Without `member` itself and
    without candidates that were never measured.
    """
    return [other["id"] for other in others if other["id"] != member["id"]
            and all(overlap(member, other, name) for name in ("clean", "robust"))]


def overlap(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Whether the 95 % intervals of two candidates' accuracy `name`, "clean" or "robust", have a point in common."""
    if one["validation"] is None or other["validation"] is None:
        return False
    (low, high), (lowest, highest) = (candidate["validation"][f"{name}_interval"] for candidate in (one, other))
    return bool(low <= highest and lowest <= high)


def rank_order(records: Sequence[Record], names: Sequence[str]) -> list[int]:
    """Places in `records`, all of one rung, in the order in which they deserve promotion.

    Feasible ones first, by non-dominated rank and then by diversity, as MO-ASHA orders the candidates of a rung
    (Schmucker, Donini, Zafar, Salinas, Archambeau 2021). Diversity is the search's own, the least crowded first, where
    their program takes an epsilon-net: `mnn` (Kukkonen and Deb 2006), with two objectives the crowding distance (Deb et
    al. 2002). Then infeasible ones by how little they violate, those never measured last. Equals are ordered by id, so
    the order of `records` has no influence.

    An objective that no feasible candidate has (latency, where the rung does not time it) is left out; a feasible
    candidate that lacks another stands behind the other feasible ones.
    """
    # By id from the start: of equal points pymoo takes the first one for less crowded than the others.
    places = sorted(range(len(records)), key=lambda place: records[place].id)
    feasible = np.array([place for place in places if records[place].is_feasible], int)
    values = _table([records[place] for place in feasible], names)
    values = values[:, ~np.isnan(values).all(axis=0)]
    complete = ~np.isnan(values).any(axis=1)
    ranked = feasible[complete]
    infeasible = [place for place in places if not records[place].is_feasible]
    infeasible.sort(key=lambda place: math.inf if (gap := records[place].violation) is None else gap)
    return [*ranked[_by_rank_and_crowding(values[complete])].tolist(), *feasible[~complete].tolist(), *infeasible]


def rank_correlation(low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    """{tau, n} of one objective of the same n candidates at two fidelities: Kendall's tau-b (1945), in [-1, 1].

    tau is None below three candidates, and where all of them are equal at one fidelity.
    """
    if len(low) != len(high):
        raise ValueError(f"{len(low)} numbers at one fidelity, {len(high)} at the other")
    if len(low) < 3:
        return {"tau": None, "n": len(low)}
    from scipy.stats import kendalltau  # half a second, which most programs that import this need not wait

    tau = float(kendalltau(low, high).statistic)
    return {"tau": None if math.isnan(tau) else tau, "n": len(low)}


def _table(records: Sequence[Record], names: Sequence[str]) -> np.ndarray:
    """Objectives (records, names) as `objectives` gives them, whatever the status; NaN where one was not measured."""
    columns = [_column(records, OBJECTIVES[name]) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(records), 0))


def _column(records: Sequence[Record], quantity: Quantity) -> np.ndarray:
    values = np.array([quantity.of(record) for record in records], float)
    if quantity.more_is_better:
        return 1 - values
    return values if quantity.floor is None else np.log10(np.maximum(quantity.floor, values))


def _is_nondominated(values: np.ndarray) -> np.ndarray:
    """Which rows (n, objectives) no other dominates; of equal rows the first. moocore takes no empty table."""
    return moocore.is_nondominated(values, keep_weakly=False) if len(values) else np.zeros(0, bool)


def _inside(records: Sequence[Record], ideal: Sequence[float], reference: Sequence[float]) -> np.ndarray:
    """The records' points (n, 3) in the box, scaled to [0, 1); what is better than the ideal lies on the box's side."""
    low, high = np.array(ideal, float), np.array(reference, float)
    points = _table([record for record in records if record.is_feasible], BOX)
    scaled: np.ndarray = np.clip((points - low) / (high - low), 0, None)
    return scaled[(scaled < 1).all(axis=1)]  # NaN, which was never measured, is not below 1


def _volume(points: np.ndarray) -> float:
    return float(moocore.hypervolume(points, ref=[1.0, 1.0, 1.0])) if len(points) else 0.0


def _by_rank_and_crowding(values: np.ndarray) -> np.ndarray:
    """Places of the rows (n, objectives), the best first."""
    if values.size == 0:
        return np.arange(len(values))
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    crowding = get_crowding_function("cd" if values.shape[1] < 3 else "mnn")
    return np.concatenate([members[np.argsort(-crowding.do(values[members]), kind="stable")]
                           for members in NonDominatedSorting().do(values)])
