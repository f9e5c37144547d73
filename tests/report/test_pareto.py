"""The front as tables: every entry once, members and variants apart, most robust first, readable by pandas."""

from __future__ import annotations

import csv
import io

import pandas
import pytest

from parapet.report import pareto


@pytest.mark.parametrize(("table", "listed", "bound"), [
    (pareto.members, "candidates", ("robust_accuracy", "robust_low", "robust_high")),
    (pareto.variants, "variants", ("robust_upper_bound", "upper_bound_low", "upper_bound_high"))])
def test_every_entry_is_a_row_in_both_forms(made, table, listed, bound) -> None:
    columns, rows = table(made.front)
    header, *lines = csv.reader(io.StringIO(pareto.as_csv((columns, rows))))
    assert tuple(header) == columns and set(bound) < set(columns)
    assert sorted(line[0] for line in lines) == sorted(entry["id"] for entry in made.front[listed]) != []
    found = pandas.read_json(io.StringIO(pareto.as_json((columns, rows))), orient="split")
    assert list(found["id"].astype(str)) == [line[0] for line in lines]
    by_id = {entry["id"]: entry for entry in made.front[listed]}
    for line in lines:
        entry, row = by_id[line[0]], dict(zip(header, line))
        assert [float(row[name]) for name in bound] == [entry["test"]["robust_accuracy"],
                                                        *entry["test"]["robust_interval"]]
        assert int(row["flops"]) == entry["flops"]


def test_an_upper_bound_is_never_among_measured_accuracies(made) -> None:
    """Sorted by robust accuracy, the old table had the variant first: nobody measured that much."""
    variant = made.front["variants"][0]
    parent = next(entry for entry in made.front["candidates"] if entry["id"] == variant["derived_from"])
    assert variant["test"]["robust_accuracy"] > parent["test"]["robust_accuracy"]
    assert not any("-int8" in str(cell) for row in pareto.members(made.front)[1] for cell in row)
    assert not {"robust_accuracy", "robust_low", "robust_high"} & set(pareto.VARIANTS)
