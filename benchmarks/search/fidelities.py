"""How well a cheap training tells what a full one would show, over all genomes of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table as Printed
from scipy import stats

from benchmarks.search.replay import CHAINS, Table
from parapet.search.front import rank_correlation

_RESAMPLES = 500


def agreement(table: Table) -> list[dict[str, Any]]:
    """A row for each chain and rung, on validation.

    tau: Kendall's tau-b of robust accuracy with that from scratch, n genomes, with a percentile bootstrap interval.
    gain: the mean of robust accuracy less that of the same rung cold (chain inherited), or less that from scratch (the
    cold chain's full fidelity), with Student's interval over the genomes; None for the others.
    """
    last = max(table.rungs.values())
    found = []
    for chain in CHAINS:
        for epochs, rung in table.rungs.items():
            pairs = [(row, table.row(genome, "scratch", last), table.row(genome, "cold", rung))
                     for genome in table.genomes if (row := table.row(genome, chain, rung)) is not None]
            pairs = [rows for rows in pairs if all("validation" in row for row in rows)]
            robust, scratch, cold = (np.array([row["validation"][1] for row in column])
                                     for column in (zip(*pairs) if pairs else ((), (), ())))
            against = cold if chain == "inherited" else scratch if rung == last else None
            found.append({"chain": chain, "rung": rung, "epochs": epochs, **rank_correlation(robust, scratch),
                          "tau_interval": _resampled(robust, scratch), "robust": _mean(robust),
                          "gain": None if against is None or len(robust) < 3 else _gain(robust - against)})
    return found


def drawn(rows: list[dict[str, Any]]) -> Printed:
    """`agreement` as a table to print."""
    printed = Printed(title="Robust accuracy on validation after part of the training")
    for name in ("chain", "epochs", "genomes", "tau with full training from scratch", "mean robust accuracy", "gain"):
        printed.add_column(name, justify="left" if name in ("chain", "gain") else "right")
    for row in rows:
        tau = "-" if row["tau"] is None else f"{row['tau']:.2f}" + (
            f" ({row['tau_interval'][0]:.2f} to {row['tau_interval'][1]:.2f})" if row["tau_interval"] else "")
        gain = "" if row["gain"] is None else (
            f"{100 * row['gain']['mean']:+.1f} points ({100 * row['gain']['interval'][0]:+.1f} to "
            f"{100 * row['gain']['interval'][1]:+.1f}) over {'cold' if row['chain'] == 'inherited' else 'scratch'}")
        robust = "-" if row["robust"] is None else f"{100 * row['robust']:.1f} %"
        printed.add_row(row["chain"], str(row["epochs"]), str(row["n"]), tau, robust, gain)
    return printed


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _gain(differences: np.ndarray) -> dict[str, Any]:
    middle = float(differences.mean())
    wide = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    return {"mean": middle, "interval": [middle - wide, middle + wide]}


def _resampled(one: np.ndarray, other: np.ndarray) -> list[float] | None:
    if len(one) < 8:
        return None
    random = np.random.default_rng(0)
    draws = (random.integers(len(one), size=len(one)) for _ in range(_RESAMPLES))
    taus = [tau for places in draws if (tau := rank_correlation(one[places], other[places])["tau"]) is not None]
    return [float(value) for value in np.quantile(taus, (0.025, 0.975))] if taus else None
