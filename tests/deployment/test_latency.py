"""Latency: percentiles with their circumstances, and a check that notices company."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from parapet.cores import affinity, cpu_count
from parapet.deployment import export, measure_latency
from parapet.deployment.latency import _median_interval, _noise
from parapet.genome import Genome
from tests.deployment.small_networks import small_network


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export(small_network(Genome()), path, opset=20)
    return path


def test_it_is_told_with_its_circumstances(graph: Path) -> None:
    before = affinity()
    found = measure_latency(graph, (1, 8, 8), batch=3, threads=1, warmup=2, runs=50, seconds=0.0, throughput_batch=64)
    assert 0 < found["p50"] <= found["p90"] <= found["p99"]
    assert found["runs"] == 50 and found["batch"] == 3 and found["threads"] == 1 and len(found["pinned"]) == 1
    assert found["machine"] and found["onnxruntime"] and found["providers"] == ["CPUExecutionProvider"]
    low, high = found["median_interval"]
    assert low <= found["p50"] <= high
    assert found["throughput"]["batch"] == 64 and found["throughput"]["images_per_second"] > 0
    assert found["noise"]["verdict"] in ("quiet", "busy")
    assert affinity() == before


def test_runs_go_on_until_the_median_is_known(graph: Path) -> None:
    found = measure_latency(graph, (1, 8, 8), warmup=2, runs=10, seconds=0.05)
    assert found["runs"] > 10
    assert found["stable"] == (found["median_interval"][1] - found["median_interval"][0] <= 0.04 * found["p50"])


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = _median_interval(np.sort(random.lognormal(size=101)))
        covered += low <= 1.0 <= high
    assert covered / 400 > 0.93


def test_a_machine_with_company_is_told(graph: Path) -> None:
    load = "import time\nend = time.time() + 30\nwhile time.time() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", load]) for _ in range(cpu_count())]
    try:
        time.sleep(0.3)
        noise = measure_latency(graph, (1, 8, 8), warmup=2, runs=50, seconds=0.5)["noise"]
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert noise["verdict"] == "busy" and noise["others"] > 0.25
    assert noise["reason"].startswith("other processes took ")
    assert "of a core meanwhile (at most 25%)" in noise["reason"]


def test_a_median_that_moves_is_told() -> None:
    class Alone:
        others = 0.0

    steady, moving = np.full(800, 1.0), np.r_[np.full(400, 1.0), np.full(400, 1.3)]
    assert _noise(Alone(), steady, 1.0) == {"verdict": "quiet", "others": 0.0, "drift": 0.0, "reason": None}
    assert _noise(Alone(), moving, 1.0)["reason"] == (
        "the median moved by 30% between blocks of calls (at most 10%)")
