"""Rows and metrics say what front.json says, and DVC itself reads them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parapet.report.dvc_plots import metrics, plot_tables


def test_tables_hold_the_front(made) -> None:
    tables = plot_tables(made.front, made.evaluations)
    own = {candidate["id"]: candidate for candidate in made.front["candidates"]}
    assert {row["id"] for row in tables["front"]} == set(own)
    for row in tables["front"]:
        test = own[row["id"]]["test"]
        assert (row["clean_accuracy"], row["robust_accuracy"]) == (test["clean_accuracy"], test["robust_accuracy"])
        assert row["log10_flops"] == pytest.approx(math.log10(own[row["id"]]["flops"]))
    assert [row["hypervolume"] for row in tables["hypervolume"]] == [
        point["hypervolume"] for point in made.front["search"]["hypervolume"]]
    for table, column, kind in (("attacks", "accuracy", "alone"), ("attacks_left", "left", "left")):
        for row in tables[table]:
            source = made.front["undefended"] if row["id"] == "undefended" else own[row["id"]]
            assert row[column] == source["test"]["attacks"][row["attack"]][kind] is not None
    assert {row["attack"] for row in tables["attacks"]} == {"fgsm", "deepfool", "pgd"}
    assert {row["attack"] for row in tables["attacks_left"]} == {"apgd_ce", "apgd_t", "fab_t", "square"}
    assert {row["id"] for row in tables["eps_curve"]} == {*own, "undefended"}
    for rows in tables.values():
        assert rows and all(row.keys() == rows[0].keys() for row in rows)
        json.dumps(rows, allow_nan=False)


def test_tables_do_without_evaluations(made) -> None:
    assert plot_tables(made.front, {})["eps_curve"] == []


def test_metrics_are_flat_and_chosen_on_validation(made) -> None:
    front = made.front
    own = front["candidates"]
    own[0]["validation"]["robust_accuracy"] = 1.0
    result = metrics(front)
    assert result["best_robust_accuracy"] == own[0]["test"]["robust_accuracy"]
    assert result["best_clean_accuracy"] == own[0]["test"]["clean_accuracy"]
    assert result["gap"] == own[0]["test"]["robust_accuracy"] - front["undefended"]["test"]["robust_accuracy"]
    assert (result["front_size"], result["evaluated"], result["infeasible"]) == (8, 48, 2)
    assert result["hypervolume"] == front["search"]["hypervolume"][-1]["hypervolume"]
    assert result["flops_span"] == own[-1]["flops"] / own[0]["flops"]
    assert all(type(value) in (int, float) for value in result.values())


def test_dvc_shows_metrics_and_plots(made, tmp_path) -> None:
    pytest.importorskip("dvc", reason="dvc is not installed")
    folder = tmp_path / "repository"
    folder.mkdir()
    _dvc(folder, "init", "--no-scm", "--quiet")
    (folder / "metrics.json").write_text(json.dumps(metrics(made.front)))
    for name, rows in plot_tables(made.front, made.evaluations).items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "dvc.yaml").write_text(
        "metrics: [metrics.json]\nplots:\n"
        "- front.json: {x: log10_flops, y: robust_accuracy, template: scatter}\n"
        "- hypervolume.json: {x: generation, y: hypervolume}\n"
        "- attacks.json: {x: accuracy, y: attack, template: scatter}\n"
        "- attacks_left.json: {x: left, y: attack, template: scatter}\n"
        "- eps_curve.json: {x: eps, y: accuracy, template: scatter}\n")
    shown = json.loads(_dvc(folder, "metrics", "show", "--json"))[""]["data"]["metrics.json"]["data"]
    assert shown == metrics(made.front)
    plots = json.loads(_dvc(folder, "plots", "show", "--json"))["data"]
    assert set(plots) == {"front.json", "hypervolume.json", "attacks.json", "attacks_left.json", "eps_curve.json"}


def _dvc(folder: Path, *arguments: str) -> str:
    # Its caches go to the test's folder, and it may neither report its use nor look for updates.
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
                   "DVC_GLOBAL_CONFIG_DIR": str(folder.parent / "global"), "HOME": str(folder.parent)}
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
