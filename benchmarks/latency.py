"""Is a latency what it says? Measured twice, against a bare loop, and with company.

    python -m benchmarks.latency

One small network of each family is exported and timed by `measure_latency` twice, then by a loop over `session.run`
that is written out here, with the same threads. Then other processes load every core, and the noise check has to speak.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import hardware
from parapet.cli import guarded
from parapet.cores import cpu_count
from parapet.deployment import export, footprint, measure_latency, quantize
from parapet.disk.files import write_json
from parapet.genome import Genome
from parapet.models import build

RECORD = Path("benchmarks/results/latency.json")
SHAPES = {"plain": (1, 28, 28), "residual": (1, 28, 28), "separable": (1, 28, 28), "small_cnn": (1, 28, 28),
          "preact_resnet": (3, 32, 32), "vit": (3, 32, 32)}
WITHIN_TWICE, WITHIN_BARE = 0.05, 0.10
_LOAD = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"


def bare_loop(path: Path, shape: tuple[int, ...], threads: int, seconds: float) -> float:
    """The median of milliseconds a call, by nothing but onnxruntime and a clock."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    running = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {running.get_inputs()[0].name: np.random.default_rng(1).random((1, *shape), dtype=np.float32)}
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        running.run(None, feed)
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times[len(times) // 10:]))


def measure(folder: Path, family: str, shape: tuple[int, int, int], seconds: float) -> dict[str, Any]:
    """A row of the table."""
    network = build(Genome(backbone=family, width=8, depth=1), shape, 10, generator=torch.Generator().manual_seed(0))
    path, small = folder / f"{family}.onnx", folder / f"{family}-int8.onnx"
    export(network, path, opset=20)
    quantize(path, small, np.random.default_rng(0).random((64, *shape), dtype=np.float32))
    once, again = (measure_latency(path, shape, seconds=seconds, throughput_batch=256) for _ in range(2))
    bare, int8 = bare_loop(path, shape, 1, seconds), measure_latency(small, shape, seconds=seconds)
    return {"family": family, "p50": once["p50"], "again": again["p50"], "bare": bare, "int8": int8["p50"],
            "twice": abs(again["p50"] / once["p50"] - 1), "against_bare": once["p50"] / bare,
            "noise": [once["noise"], again["noise"]], "throughput": once["throughput"],
            "footprint": footprint(path, shape)}


def with_company(folder: Path, seconds: float) -> dict[str, Any]:
    """The noise check of the first family while every core is loaded."""
    family, shape = next(iter(SHAPES.items()))
    others = [subprocess.Popen([sys.executable, "-c", _LOAD]) for _ in range(cpu_count())]
    try:
        time.sleep(0.5)
        return measure_latency(folder / f"{family}.onnx", shape, seconds=seconds)["noise"]
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> int:
    """Measure, print, keep the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, each (default: 1)")
    options = parser.parse_args()

    def run() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder, rows = Path(name), []
            for family, shape in SHAPES.items():
                row = measure(folder, family, shape, options.seconds)
                rows.append(row)
                verdicts = ", ".join(noise["verdict"] for noise in row["noise"])
                print(f"{family:<14} p50 {row['p50']:.4f} ms, again {row['again']:.4f} ({row['twice']:.1%} apart, "
                      f"limit {WITHIN_TWICE:.0%}); bare loop {row['bare']:.4f}, ratio {row['against_bare']:.3f} "
                      f"(within {WITHIN_BARE:.0%} of 1); INT8 {row['int8']:.4f}; machine {verdicts}", flush=True)
            company = with_company(folder, options.seconds)
            print(f"with every core loaded: {company['verdict']}: {company['reason']}")
        write_json(RECORD, {"schema_version": 1, "hardware": hardware("cpu"), "seconds": options.seconds,
                            "rows": rows, "with_company": company})
    return guarded("benchmarks.latency", run)


if __name__ == "__main__":
    sys.exit(main())
