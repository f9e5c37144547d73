"""One step, three drivers: DVC, kfp.local and the command line give the same front. Takes about two minutes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parapet.config import load, to_dict
from parapet.disk.files import read_json
from parapet.store import archive
from pipelines import local
from pipelines.layout import Layout
from tests.fronts import identity

ROOT = Path(__file__).parents[2]
PARAMS = Path(__file__).parent / "same_front_params.yaml"


def run(*command: object) -> str:
    done = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fronts(tmp_path_factory) -> tuple[Path, Path, str]:
    """The folders that `parapet run` and `python -m pipelines local` leave, and what the latter says."""
    folder = tmp_path_factory.mktemp("fronts")
    run("parapet.cli", "run", "--params", PARAMS, "--out", folder / "cli")
    said = run("pipelines", "local", "--params", PARAMS, "--out", folder / "kfp")
    return folder / "cli", folder / "kfp", said


def test_the_command_line_and_kubeflow_give_the_same_front(fronts):
    ours, theirs = (read_json(folder / "front.json") for folder in fronts[:2])
    assert identity(ours["candidates"]) == identity(theirs["candidates"])
    assert len(ours["candidates"]) > 1
    assert ours["undefended"]["test"] == theirs["undefended"]["test"]
    assert [candidate["test"] for candidate in ours["candidates"]] \
        == [candidate["test"] for candidate in theirs["candidates"]]


def test_they_measured_the_same_candidates_in_the_same_order(fronts):
    ours, theirs = (archive.read(folder / "search" / "archive.jsonl") for folder in fronts[:2])
    assert [(record["id"], record["status"], record["validation"]) for record in ours] \
        == [(record["id"], record["status"], record["validation"]) for record in theirs]
    assert len(ours) == 4


def test_the_front_stands_by_itself_and_the_report_is_where_it_says(fronts):
    _, out, said = fronts
    front = read_json(out / "front.json")
    for member in [front["undefended"], *front["candidates"]]:
        assert all((out / member[name]).is_file() for name in ("weights", "onnx", "evaluation"))
    assert said.splitlines()[-1] == f"report  {out / 'report' / 'index.html'}"
    assert (out / "report" / "index.html").is_file()


def test_a_person_reads_a_line_a_task_and_the_rest_is_in_the_log(fronts):
    _, out, said = fronts
    done = [line for line in said.splitlines() if " is done" in line]
    assert len(done) == len(set(done)) == 15 + 8
    assert "training is done: generation 2, candidate 2" in done
    assert "KFP Executor" not in said
    assert "KFP Executor" in (out / ".kfp/pipeline.log").read_text()


@pytest.mark.slow
def test_dvc_gives_the_same_front(fronts, tmp_path):
    for name in ("src", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "data.dvc"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    # dvc.yaml names every section, and DVC wants to find it.
    (tmp_path / "params.yaml").write_text(json.dumps(to_dict(load(PARAMS))))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # DVC calls `parapet` by name
    for command in (["init", "--no-scm", "--quiet"], ["repro"]):
        done = subprocess.run(["dvc", *command], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = (read_json(path / "front.json") for path in (fronts[0], tmp_path / "artifacts"))
    assert identity(ours["candidates"]) == identity(theirs["candidates"])
    assert [candidate["test"] for candidate in ours["candidates"]] \
        == [candidate["test"] for candidate in theirs["candidates"]]


@pytest.mark.slow
@pytest.mark.parametrize("layout", [Layout(batch=2), Layout(generations_per_task=1)], ids=str)
def test_however_it_is_cut_into_tasks_the_front_is_the_same(fronts, layout, tmp_path):
    local.run(load(PARAMS), tmp_path, str(ROOT / "data"), layout)
    ours, theirs = (read_json(folder / "front.json") for folder in (fronts[0], tmp_path))
    assert identity(ours["candidates"]) == identity(theirs["candidates"])
    assert [candidate["test"] for candidate in ours["candidates"]] \
        == [candidate["test"] for candidate in theirs["candidates"]]
