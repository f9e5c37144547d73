"""Latency of an ONNX graph: one session, pinned threads, warm-up left out, percentiles of many runs.

After the MLPerf Inference rules (SingleStream reports p90 of the latency at batch 1).
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from parapet.deployment.export import INPUT
from parapet.deployment.runtime import session


def measure_latency(path: Path, image_shape: tuple[int, int, int], *, batch: int = 1, threads: int = 1,
                    warmup: int = 30, runs: int = 200, seconds: float = 0.2) -> dict[str, Any]:
    """Milliseconds per call on random images of fixed seed.

    Times at least `runs` calls and at least `seconds`, after `warmup` calls. Returns p50, p90, p99, mean, runs,
    batch, threads, machine, onnxruntime's version and the providers that are really active.
    """
    import onnxruntime

    running = session(path, threads=threads)
    images = np.random.default_rng(0).random((batch, *image_shape), dtype=np.float32)
    feed = {INPUT: images}
    for _ in range(warmup):
        running.run(None, feed)
    durations: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while len(durations) < runs or time.perf_counter_ns() < end:
        started = time.perf_counter_ns()
        running.run(None, feed)
        durations.append(time.perf_counter_ns() - started)
    milliseconds = np.array(durations) / 1e6
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(milliseconds.mean()), "runs": len(durations),
            "batch": batch, "threads": threads, "machine": processor(), "onnxruntime": onnxruntime.__version__,
            "providers": list(running.get_providers())}


def processor() -> str:
    """The processor's name, as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
