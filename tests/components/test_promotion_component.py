"""The component promotion, through its Python function, on a real registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kfp.dsl import Artifact, Dataset

import components
from parapet.disk.files import read_json
from parapet.errors import PromotionRefused
from parapet.registry.mlflow_registry import MlflowRegistry
from tests.components.component_sections import sections
from tests.finished_search import SETTINGS, members
from tests.promotion.test_reattack import every_outcome, fit
from tests.tracking.conftest import migrated  # noqa: F401  a fixture


def test_the_component_promotes_a_better_member_and_fails_on_a_worse_one(
        finished: Path, migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    shutil.copytree(finished, tmp_path / "artifacts")
    shutil.move(tmp_path / "artifacts/dataset", tmp_path / "dataset")  # on a cluster it is an artifact of its own
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = {name: SETTINGS[name] for name in ("export", "full_evaluation", "promotion")}

    def promote(wish: str) -> str:
        return components.promotion.python_func(
            **sections("promotion", **settings), mlflow_uri=uri, wish=wish, workspace=str(tmp_path / "workspace"),
            dataset=Dataset(uri=str(tmp_path / "dataset")), assembled=Artifact(uri=str(tmp_path / "artifacts")))

    assert promote("weights: flops 1") == "1"
    assert promote("weights: robust_accuracy 1") == "2"
    assert "Version 2 of parapet is champion. Attacked again on the graph that ships (rapid suite, seed " in read_json(
        tmp_path / "workspace/outcome-promotion.json")["told"]
    with pytest.raises(PromotionRefused, match="worse than the champion"):
        promote("weights: flops 1")
    assert "worse than the champion (version 2)" in read_json(tmp_path / "workspace/outcome-promotion.json")["told"]
    _, large = members(tmp_path / "artifacts")
    assert MlflowRegistry(uri, "parapet").aliased("champion").tags["candidate"] == large["id"]


def test_each_run_attacks_the_champion_with_a_seed_of_its_own_and_fails_where_its_number_is_not_reached(
        finished: Path, migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    shutil.copytree(finished, tmp_path / "artifacts")
    uri, out = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts"
    settings = {name: SETTINGS[name] for name in ("export", "full_evaluation", "promotion")}

    def audit(run: str) -> str:
        components.promotion.python_func(
            **sections("promotion", **settings), mlflow_uri=uri, wish="weights: flops 1", occasion=run,
            workspace=str(tmp_path / run), dataset=Dataset(uri=str(out / "dataset")), assembled=Artifact(uri=str(out)))
        return MlflowRegistry(uri, "parapet").aliased("champion").tags["gate.attack_seed"]

    first = audit("first")
    assert audit("second") != first
    small, _ = members(out)
    fit(out, small["id"], every_outcome)
    with pytest.raises(PromotionRefused, match=r"no longer passes the gate: the recorded robust accuracy 0.\d+ is not"):
        audit("third")
    assert "is not reached" in read_json(tmp_path / "third/outcome-promotion.json")["told"]
