"""The objectives of a search, the non-dominated front of an archive, its hypervolume, and the order of promotion.

The records are those of `records.latest`: one per candidate. Functions that compare two candidates by their intervals
accept entries of front.json and lines of the archive.
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

    FLOPs and latency (ms) are log10 values: this does not change dominance, and crowding then compares ratios. None
    for an infeasible candidate, and where an objective was not measured (for example latency on a cheap rung).
    """
    return measured_objectives(record, names) if record.is_feasible else None


def measured_objectives(record: Record, names: Sequence[str]) -> list[float] | None:
    """As `objectives`, but also for infeasible candidates; None where an objective was not measured."""
    values = _table([record], names)[0]
    return None if np.isnan(values).any() else values.tolist()


def front(records: Sequence[Record], names: Sequence[str], *, rung: int | None = None) -> list[Record]:
    """The non-dominated feasible records, sorted by FLOPs; of records with equal objectives only the first.

    Only candidates of full fidelity are compared, or only those of one `rung`, because accuracies of different
    fidelities are not comparable.
    """
    candidates = [record for record in records if record.is_feasible
                  and (record.fidelity.full if rung is None else record.fidelity.rung == rung)]
    values = _table(candidates, names)
    measured = np.flatnonzero(~np.isnan(values).any(axis=1))
    members = [candidates[place] for place in measured[_is_nondominated(values[measured])]]
    return sorted(members, key=lambda record: (record.flops, record.id))


def hypervolume(records: Sequence[Record], ideal: Sequence[float], reference: Sequence[float]) -> float:
    """The share of the box from `ideal` to `reference` that the feasible `records` dominate, in [0, 1].

    The box is always over (clean error, robust error, log10 FLOPs), so that searches with other objectives can be
    compared.
    """
    return _volume(_inside(records, ideal, reference))


def hypervolume_curve(records: Sequence[Record], ideal: Sequence[float],
                      reference: Sequence[float]) -> list[dict[str, Any]]:
    """One row per generation: {generation, candidates, training_seconds, hypervolume}, cumulative.

    Candidates and seconds include every fidelity; the hypervolume includes full fidelity only.
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
    """The ids of the `others` whose 95 % intervals of clean and of robust accuracy both overlap with those of `member`.

    The data do not show which of `member` and such a candidate is more accurate or more robust. `member` itself and
    candidates without measurements are not included.
    """
    return [other["id"] for other in others if other["id"] != member["id"]
            and all(overlap(member, other, name) for name in ("clean", "robust"))]


def overlap(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Whether the 95 % intervals of two candidates' accuracy `name`, "clean" or "robust", overlap; False where one of
    the candidates was not measured."""
    if one["validation"] is None or other["validation"] is None:
        return False
    (low, high), (lowest, highest) = (candidate["validation"][f"{name}_interval"] for candidate in (one, other))
    return bool(low <= highest and lowest <= high)


def rank_order(records: Sequence[Record], names: Sequence[str]) -> list[int]:
    """Indices into `records`, all of one rung, in the order of promotion, best first.

    Feasible candidates come first, by non-dominated rank and then by diversity, as in MO-ASHA (Schmucker, Donini,
    Zafar, Salinas, Archambeau 2021). Diversity differs from MO-ASHA, which uses an epsilon-net: here the least crowded
    candidate comes first, by `mnn` (Kukkonen and Deb 2006) or, with two objectives, by crowding distance (Deb et al.
    2002). Infeasible candidates follow by increasing violation, and those without measurements are last. Ties are
    ordered by id, so the result does not depend on the order of `records`.

    An objective that no feasible candidate has (latency, where the rung does not measure it) is ignored. A feasible
    candidate without one of the remaining objectives comes after the other feasible ones.
    """
    # Sorted by id first: of equal points pymoo treats the first one as less crowded than the others.
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
    """{tau, n}: Kendall's tau-b (1945), in [-1, 1], of one objective of the same n candidates at two fidelities.

    tau is None for fewer than three candidates, and where all values at one fidelity are equal. Raises ValueError where
    `low` and `high` have different lengths.
    """
    if len(low) != len(high):
        raise ValueError(f"{len(low)} numbers at one fidelity, {len(high)} at the other")
    if len(low) < 3:
        return {"tau": None, "n": len(low)}
    from scipy.stats import kendalltau  # imported here: it takes half a second, and most callers do not need it

    tau = float(kendalltau(low, high).statistic)
    return {"tau": None if math.isnan(tau) else tau, "n": len(low)}


def _table(records: Sequence[Record], names: Sequence[str]) -> np.ndarray:
    """Objectives, shape (records, names), as in `objectives` but for any status; NaN where one was not measured."""
    columns = [_column(records, OBJECTIVES[name]) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(records), 0))


def _column(records: Sequence[Record], quantity: Quantity) -> np.ndarray:
    values = np.array([quantity.of(record) for record in records], float)
    if quantity.more_is_better:
        return 1 - values
    return values if quantity.floor is None else np.log10(np.maximum(quantity.floor, values))


def _is_nondominated(values: np.ndarray) -> np.ndarray:
    """A mask (n,) of the non-dominated rows of `values` (n, objectives); of equal rows only the first."""
    return moocore.is_nondominated(values, keep_weakly=False) if len(values) else np.zeros(0, bool)


def _inside(records: Sequence[Record], ideal: Sequence[float], reference: Sequence[float]) -> np.ndarray:
    """The records' points (n, 3) that lie in the box, scaled to [0, 1); values better than the ideal become 0."""
    low, high = np.array(ideal, float), np.array(reference, float)
    points = _table([record for record in records if record.is_feasible], BOX)
    scaled: np.ndarray = np.clip((points - low) / (high - low), 0, None)
    return scaled[(scaled < 1).all(axis=1)]  # also drops rows with NaN, which were not measured


def _volume(points: np.ndarray) -> float:
    return float(moocore.hypervolume(points, ref=[1.0, 1.0, 1.0])) if len(points) else 0.0


def _by_rank_and_crowding(values: np.ndarray) -> np.ndarray:
    """Indices of the rows of `values` (n, objectives), the best first."""
    if values.size == 0:
        return np.arange(len(values))
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    crowding = get_crowding_function("cd" if values.shape[1] < 3 else "mnn")
    return np.concatenate([members[np.argsort(-crowding.do(values[members]), kind="stable")]
                           for members in NonDominatedSorting().do(values)])
