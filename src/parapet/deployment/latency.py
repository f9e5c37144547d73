"""Latency of an ONNX graph: one session, pinned threads, percentiles of many calls after a warm-up.

As in the MLPerf Inference rules: single stream (batch 1, percentiles of the latency of a call) and offline (large
batches, images per second). A check tells whether the machine was quiet enough for the result to be trusted.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from parapet.cores import affinity, describe
from parapet.deployment.export import INPUT
from parapet.deployment.runtime import session

# The median is stable where half the width of its 95 % interval is at most this share of it.
_STABLE = 0.02
# Number of blocks of calls whose medians are compared, and how many times `seconds` the timing may take at most.
_BLOCKS, _LONGEST = 8, 4.0
# The machine was busy beyond these: processor time of other processes as a share of one core, and drift as a share of
# the median.
_OTHERS, _DRIFT = 0.25, 0.10


def measure_latency(path: Path, image_shape: tuple[int, int, int], *, batch: int = 1, threads: int = 1,
                    warmup: int = 30, runs: int = 200, seconds: float = 0.2,
                    throughput_batch: int = 0) -> dict[str, Any]:
    """Milliseconds per call on random images from a fixed seed.

    After `warmup` calls it times at least `runs` calls and at least `seconds`, and goes on until the median is known to
    2 %, but at most four times `seconds`. On Linux the process is pinned to `threads` cores during the timing. Returns
    p50, p90, p99, mean, runs, median_interval (95 %), stable; batch, threads, pinned; throughput {batch,
    images_per_second}, None where `throughput_batch` is 0; machine, versions and the providers in use; noise {verdict
    "quiet" or "busy", others, drift, reason}: `others` is the processor time of other processes as a share of one core.
    """
    import onnxruntime

    images = np.random.default_rng(0).random((max(batch, throughput_batch), *image_shape), dtype=np.float32)
    with _pinned(threads) as cores:
        running = session(path, threads=threads)
        feed = {INPUT: images[:batch]}
        for _ in range(warmup):
            running.run(None, feed)
        with _Watch() as watch:
            durations = _timed(running, feed, runs, seconds)
        throughput = _throughput(running, images[:throughput_batch], seconds) if throughput_batch else None
    milliseconds = np.array(durations) / 1e6
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    low, high = _median_interval(np.sort(milliseconds))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(milliseconds.mean()), "runs": len(durations),
            "median_interval": [low, high], "stable": high - low <= 2 * _STABLE * p50, "batch": batch,
            "threads": threads, "pinned": cores, "throughput": throughput, "machine": processor(),
            "onnxruntime": onnxruntime.__version__, "numpy": np.__version__, "python": platform.python_version(),
            "providers": list(running.get_providers()), "noise": _noise(watch, milliseconds, p50)}


def processor() -> str:
    """The name of the processor, and how many of its cores may be used where a quota limits them."""
    return ", ".join(filter(None, [_name(), describe()]))


def _name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _timed(running: Any, feed: dict[str, np.ndarray], runs: int, seconds: float) -> list[int]:
    """Nanoseconds of each call."""
    durations: list[int] = []
    begun = time.perf_counter_ns()
    least, most = begun + int(seconds * 1e9), begun + int(_LONGEST * seconds * 1e9)
    checked = runs
    while True:
        started = time.perf_counter_ns()
        running.run(None, feed)
        ended = time.perf_counter_ns()
        durations.append(ended - started)
        if len(durations) < checked or ended < least:
            continue
        if ended >= most or _is_stable(durations):
            return durations
        checked = len(durations) + runs  # sorting after every call would slow down the next one


def _is_stable(durations: list[int]) -> bool:
    ordered = np.sort(durations)
    low, high = _median_interval(ordered)
    return high - low <= 2 * _STABLE * float(np.median(ordered))


def _median_interval(ordered: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics, for any distribution."""
    half = 0.98 * math.sqrt(len(ordered))
    middle = len(ordered) / 2
    low, high = max(0, math.floor(middle - half)), min(len(ordered) - 1, math.ceil(middle + half))
    return float(ordered[low]), float(ordered[high])


def _throughput(running: Any, images: np.ndarray, seconds: float) -> dict[str, Any]:
    """Images per second in batches: from the median of calls that together take at least `seconds`."""
    feed = {INPUT: images}
    durations: list[float] = []
    running.run(None, feed)
    end = time.perf_counter() + seconds
    while len(durations) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        running.run(None, feed)
        durations.append(time.perf_counter() - started)
    return {"batch": len(images), "images_per_second": len(images) / float(np.median(durations))}


class _Watch:
    """Measures the processor time of all other processes while a block runs."""

    def __enter__(self) -> _Watch:
        self._others = -self._by_others()
        self._clock = -time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self._clock += time.perf_counter()
        self._others += self._by_others()

    @property
    def others(self) -> float:
        """As a share of one core."""
        # The kernel counts in ticks of 10 ms, so a difference of up to two ticks is no evidence.
        ticks = 0.02 / max(self._clock, 1e-9)
        return max(0.0, self._others / max(self._clock, 1e-9) - ticks)

    @staticmethod
    def _by_others() -> float:
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        return busy - time.process_time()


def _noise(watch: _Watch, milliseconds: np.ndarray, median: float) -> dict[str, Any]:
    blocks = [float(np.median(block)) for block in np.array_split(milliseconds, _BLOCKS) if len(block)]
    drift = (max(blocks) - min(blocks)) / median
    reasons = []
    if watch.others > _OTHERS:
        reasons.append(f"other processes took {watch.others:.0%} of a core meanwhile (at most {_OTHERS:.0%})")
    if drift > _DRIFT:
        reasons.append(f"the median moved by {drift:.0%} between blocks of calls (at most {_DRIFT:.0%})")
    return {"verdict": "busy" if reasons else "quiet", "others": watch.others, "drift": drift,
            "reason": "; ".join(reasons) or None}


@contextlib.contextmanager
def _pinned(threads: int) -> Iterator[list[int] | None]:
    """Pin this process to `threads` of its cores; gives their numbers, None where the system cannot pin.

    The last cores are taken, because the first one handles the kernel's interrupts.
    """
    before = affinity() if hasattr(os, "sched_setaffinity") else None
    if before is None:
        yield None
        return
    chosen = before[-threads:]
    try:
        os.sched_setaffinity(0, chosen)
        yield chosen
    finally:
        os.sched_setaffinity(0, before)
