"""The local search: killed anywhere and resumed it ends as if left alone; failures are results."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from parapet import schemas
from parapet.config import Params, parse
from parapet.disk import sealed
from parapet.disk.files import read_json
from parapet.errors import InputError, WorkError
from parapet.search.front import front
from parapet.search.session import Session
from parapet.steps import search, training
from parapet.store import archive
from parapet.store import records as store
from parapet.tracking import NullTracker
from tests.fronts import identity
from tests.steps.tiny import TINY, command


def test_the_outcome_is_as_the_design_says(undisturbed: Path) -> None:
    out = undisturbed / "search"
    records = archive.read(out / "archive.jsonl")
    assert len(records) == 4 and {record["generation"] for record in records} == {0, 1}
    for record in records:
        schemas.validate("archive_record", record)
    ids = read_json(out / "front_ids.json")["ids"]
    names = ("clean_error", "robust_error", "flops")
    assert ids == [record.id for record in front(store.read(out / "archive.jsonl"), names)]
    shown = {*ids, read_json(out / "undefended.json")["id"]}
    assert {path.name for path in (out / "candidates").iterdir()} == shown
    for name in shown:
        files = {path.name for path in (out / "candidates" / name).iterdir()}
        assert files == {"model.safetensors", "model.onnx", "training.json", "attack_evaluation.json",
                         "adversarial.safetensors", "export.json"}


@pytest.fixture
def own(undisturbed: Path, tmp_path: Path) -> Path:
    """A finished search of its own, which a test may go on with."""
    return Path(shutil.copytree(undisturbed, tmp_path / "own"))


def test_a_finished_search_costs_nothing_to_repeat(own: Path, digits_folder: Path) -> None:
    before = _trainings(own)
    started = time.monotonic()
    done = subprocess.run(command(own, digits_folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and time.monotonic() - started < 15
    assert _trainings(own) == before


def test_killed_at_many_moments_it_ends_as_if_left_alone(tmp_path: Path, undisturbed: Path,
                                                         digits_folder: Path) -> None:
    """The driver by SIGKILL and SIGTERM, a worker by SIGKILL: the same archive and front, nothing trained twice."""
    line = command(tmp_path, digits_folder)
    finished: dict[str, float] = {}
    for victim, number, finished_count in (("driver", signal.SIGKILL, 1), ("worker", signal.SIGKILL, 1),
                                       ("driver", signal.SIGTERM, 2), ("driver", signal.SIGKILL, 4)):
        run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        _wait_for(lambda wanted=finished_count: len(_trainings(tmp_path)) >= wanted, run)
        workers = psutil.Process(run.pid).children()
        if victim == "worker" and workers:
            os.kill(workers[0].pid, number)
            time.sleep(1)
            run.kill()
        else:
            os.kill(run.pid, number)
        output, _ = run.communicate(timeout=30)
        if number == signal.SIGTERM:
            assert run.returncode == 130 and "the same command goes on from there" in output
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == [], "a worker outlived its search"
        now = _trainings(tmp_path)
        assert finished.items() <= now.items(), "a candidate was trained twice"
        finished = now
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished.items() <= _trainings(tmp_path).items()
    expected, found = (archive.read(folder / "search" / "archive.jsonl") for folder in (undisturbed, tmp_path))
    assert [record["id"] for record in found] == [record["id"] for record in expected]
    assert identity(found) == identity(expected)
    assert read_json(tmp_path / "search/front_ids.json") == read_json(undisturbed / "search/front_ids.json")


def test_a_second_search_in_the_same_folder_is_refused(tmp_path: Path, digits_folder: Path) -> None:
    line = command(tmp_path, digits_folder)
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as first:
        _wait_for(lambda: (tmp_path / "cache/search.pid").exists(), first)
        second = subprocess.run(line, capture_output=True, text=True, check=False)
        first.kill()
    assert second.returncode == 2
    assert f"a search is already running in {tmp_path / 'cache'} (process {first.pid})" in second.stderr


def test_a_longer_search_goes_on_where_a_shorter_one_ended(own: Path, digits_folder: Path,
                                                           tmp_path: Path) -> None:
    before = _trainings(own)
    params = parse(Params, {**TINY, "search": {**TINY["search"], "generations": 3}})
    search.run(params, digits_folder, tmp_path / "longer", own / "cache", devices=["cpu"],
               tracker=NullTracker())
    longer = archive.read(tmp_path / "longer/archive.jsonl")
    assert [record["id"] for record in longer[:4]] == \
        [record["id"] for record in archive.read(own / "search/archive.jsonl")]
    assert len(_trainings(own)) == len(before) + 2


def test_all_candidates_failing_is_an_error_with_the_reasons(digits_folder: Path, tmp_path: Path) -> None:
    params = parse(Params, {**TINY, "search": {**TINY["search"], "generations": 1, "minimum_clean_accuracy": 1.0}})
    with pytest.raises(WorkError, match=r"all 2 candidates failed: clean accuracy 0\.\d+ is below"):
        search.run(params, digits_folder, tmp_path / "out", tmp_path / "cache", devices=["cpu"],
                   tracker=NullTracker())


def test_a_genome_that_does_not_fit_the_images_is_a_candidate_that_failed(digits_folder: Path, tmp_path: Path) -> None:
    space = {**TINY["search"]["space"], "backbone": ["small_cnn", "plain"]}
    params = parse(Params, {**TINY, "search": {**TINY["search"], "generations": 1, "population": 4, "space": space}})
    search.run(params, digits_folder, tmp_path / "out", tmp_path / "cache", devices=["cpu"], tracker=NullTracker())
    records = archive.read(tmp_path / "out/archive.jsonl")
    unfit = [record for record in records if record["genome"]["backbone"] == "small_cnn"]
    assert 0 < len(unfit) < len(records)
    assert {record["reason"] for record in unfit} == {
        "images of 8x8 pixels are too small for small_cnn; the smallest allowed size is 16x16."}
    assert any(record["status"] == "feasible" for record in records)


def test_a_second_try_at_a_search_that_failed_fails_with_the_same_reasons(digits_folder: Path, tmp_path: Path) -> None:
    params = parse(Params, {**TINY, "search": {**TINY["search"], "generations": 2, "minimum_clean_accuracy": 1.0}})
    for _ in range(2):
        with pytest.raises(WorkError, match="all 4 candidates failed"):
            search.run(params, digits_folder, tmp_path / "out", tmp_path / "cache", devices=["cpu"],
                       tracker=NullTracker())


def test_a_folder_that_is_not_the_search_s_own_is_not_replaced(digits_folder: Path, tmp_path: Path) -> None:
    params = parse(Params, TINY)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis.txt").write_text("precious")
    for out, said in ((tmp_path / "theirs", "holds files that are not from this command"),
                      (tmp_path, f"would be replaced, and {tmp_path / 'cache'} lies in it")):
        with pytest.raises(InputError, match=said):
            search.run(params, digits_folder, out, tmp_path / "cache", devices=["cpu"], tracker=NullTracker())
    assert (tmp_path / "theirs/thesis.txt").read_text() == "precious"


def test_other_data_under_a_running_search_are_refused(digits_folder: Path, tmp_path: Path) -> None:
    """Another split would put training images among those that a candidate is judged by."""
    shutil.copytree(digits_folder, tmp_path / "dataset")
    info = read_json(tmp_path / "dataset/dataset.json")
    params = parse(Params, TINY)
    proposal = Session(params, info, "cpu").ask(lambda: False)[0]
    sealed.write(tmp_path / "dataset/dataset.json", {**info, "fingerprint": "0" * 64})
    with pytest.raises(InputError, match="holds other data .fingerprint 000000000000. than this search began with"):
        training.run(params, proposal, tmp_path / "dataset", tmp_path / "out")


def test_changing_the_export_exports_again_and_trains_nothing(own: Path, digits_folder: Path,
                                                              tmp_path: Path) -> None:
    before = _trainings(own)
    params = parse(Params, {**TINY, "export": {**TINY["export"], "latency_batch": 2}})
    search.run(params, digits_folder, tmp_path / "out", own / "cache", devices=["cpu"], tracker=NullTracker())
    assert _trainings(own) == before
    for record in archive.read(tmp_path / "out/archive.jsonl"):
        assert record["latency_ms"]["batch"] == 2


def test_a_missing_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="parapet data_prep"):
        search.run(Params(), tmp_path / "none", tmp_path / "out", tmp_path / "cache", devices=["cpu"],
                   tracker=NullTracker())


def _trainings(folder: Path) -> dict[str, float]:
    """When each finished training began, by training key."""
    found = {}
    for path in (folder / "cache/candidates").glob("*/training.json"):
        found[path.parent.name] = read_json(path)["started"]
    return found


def _wait_for(condition, run: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and run.poll() is None and not condition():
        time.sleep(0.05)
    assert run.poll() is None, f"the search ended too early with {run.returncode}"
