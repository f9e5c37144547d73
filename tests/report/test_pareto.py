"""The front as a table: every entry once, most robust first, readable by pandas."""

from __future__ import annotations

import csv
import io

import pandas

from parapet.report.pareto import COLUMNS, as_csv, as_json


def test_every_entry_is_a_row_in_both_forms(made) -> None:
    header, *lines = csv.reader(io.StringIO(as_csv(made.front)))
    assert tuple(header) == COLUMNS
    assert sorted(line[0] for line in lines) == sorted(entry["id"] for entry in made.front["candidates"])
    table = pandas.read_json(io.StringIO(as_json(made.front)), orient="split")
    assert list(table["id"].astype(str)) == [line[0] for line in lines]
    by_id = {entry["id"]: entry for entry in made.front["candidates"]}
    for line in lines:
        entry, row = by_id[line[0]], dict(zip(header, line))
        assert float(row["robust_accuracy"]) == entry["test"]["robust_accuracy"]
        assert float(row["robust_low"]) <= float(row["robust_accuracy"]) <= float(row["robust_high"])
        assert int(row["flops"]) == entry["flops"] and row["audit"] == entry["audit"]["verdict"]
