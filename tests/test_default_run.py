"""The default run keeps its promises: a hard threat model, a front worth choosing from (some four minutes)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parapet import schemas
from parapet.data import digits
from parapet.disk.files import read_json

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of `parapet run` with the repository's own parameters."""
    folder = tmp_path_factory.mktemp("default")
    digits.export(folder / "data" / "digits")
    done = subprocess.run([sys.executable, "-m", "parapet.cli", "run", "--params", str(ROOT / "params.yaml"), "--out",
                           str(folder / "out")], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


@pytest.mark.slow
def test_the_threat_model_is_hard_enough_to_mean_something(out: Path) -> None:
    front = read_json(out / "front.json")
    schemas.validate("front", front)
    undefended = front["undefended"]["test"]["robust_accuracy"]
    assert undefended < 0.2
    assert read_json(out / "metrics.json")["best_robust_accuracy"] >= undefended + 0.5


@pytest.mark.slow
def test_the_front_is_worth_choosing_from(out: Path) -> None:
    good = [candidate for candidate in read_json(out / "front.json")["candidates"]
            if candidate["test"]["clean_accuracy"] >= 0.8 and candidate["test"]["robust_accuracy"] >= 0.3]
    assert len(good) >= 5
    flops = [candidate["flops"] for candidate in good]
    assert max(flops) >= 4 * min(flops)


@pytest.mark.slow
def test_every_candidate_has_its_mlflow_run(out: Path) -> None:
    from mlflow import MlflowClient

    front = read_json(out / "front.json")
    client = MlflowClient(front["mlflow"]["tracking_uri"])
    for candidate in front["candidates"]:
        run = client.get_run(candidate["mlflow_run_id"])
        assert run.data.tags["candidate"] == candidate["id"] and run.data.tags["on_front"] == "true"
        assert run.data.metrics["validation.robust_accuracy"] == candidate["validation"]["robust_accuracy"]
