"""The image for real: built, pushed by digest, hardened, and the whole pipeline in containers of it.

Takes a quarter of an hour and a Docker engine: `make test-containers`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from parapet.disk.files import read_json
from pipelines import images
from tests.containers import engine
from tests.fronts import identity

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "tests/pipelines/same_front_params.yaml"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(engine.missing() is not None, reason=str(engine.missing()))]


def _run(image: images.Image, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    hardened = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    return subprocess.run(["docker", "run", "--rm", *hardened, *options, image.tag, *command], capture_output=True,
                          text=True, check=False)


def test_it_has_a_digest_a_revision_and_no_entrypoint(image: images.Image) -> None:
    assert image.reference is not None and "@sha256:" in image.reference
    config = json.loads(images._inspect(image.tag, "{{json .Config}}"))
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert config["Labels"]["org.opencontainers.image.revision"] == revision
    assert config["User"] == "1000" and not config.get("Entrypoint") and config["Healthcheck"]["Test"]


def test_it_runs_as_nobody_with_nothing_to_write_to_but_tmp(image: images.Image) -> None:
    done = _run(image, "sh", "-c", "id -u; touch /opt/x 2>/dev/null || echo read-only; touch /tmp/x && echo tmp; "
                "command -v gcc cc || echo no-compiler; ls /root/.cache 2>/dev/null || echo no-cache")
    assert done.stdout.split() == ["1000", "read-only", "tmp", "no-compiler", "no-cache"], done.stdout + done.stderr


def test_everything_that_a_step_needs_can_be_imported_and_the_digits_are_there(image: images.Image) -> None:
    done = _run(image, "python", "-W", "ignore", "-c", "import torch, onnxruntime, mlflow, kfp, psycopg, boto3, "
                "parapet.steps.full_evaluation; print('imported')")
    assert done.stdout.strip() == "imported", done.stderr
    done = _run(image, "sh", "-c", "cd /tmp && touch params.yaml && parapet data_prep --out /tmp/dataset", options=(
        "-e", "PARAPET_DATA=/opt/parapet/data"))
    assert "images to train" in done.stdout, done.stdout + done.stderr


def test_the_pipeline_in_containers_gives_the_front_of_the_command_line(image: images.Image, tmp_path: Path) -> None:
    """The same parameters and seed, through `parapet run` and through kfp.local's DockerRunner."""
    def run(*command: object) -> None:
        done = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    run("pipelines", "local", "--params", PARAMS, "--docker", image.tag, "--out", tmp_path / "containers")
    run("parapet.cli", "run", "--params", PARAMS, "--out", tmp_path / "cli")
    ours, theirs = (read_json(tmp_path / name / "front.json") for name in ("cli", "containers"))
    assert identity(ours["candidates"]) == identity(theirs["candidates"])
    assert [candidate["test"] for candidate in ours["candidates"] if not candidate["derived_from"]] \
        == [candidate["test"] for candidate in theirs["candidates"] if not candidate["derived_from"]]
