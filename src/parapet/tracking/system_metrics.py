"""System metrics while a search runs, under the names that MLflow's page of system metrics knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from parapet.tracking.loading import load_monitors
from parapet.tracking.outbox import Outbox

# Samples in one event; a kill loses at most so many.
_TOGETHER = 30


class SystemMetrics:
    """A daemon thread that samples processor, memory, disk, network and GPUs every `interval` seconds, for `outbox`.

    It uses MLflow's own monitors, which are imported before the thread starts. `gate()` is held around each sample, so
    that none is taken while latency is measured. Nothing is written before the outbox has a search.
    """

    def __init__(self, outbox: Outbox, interval: float = 10.0,
                 gate: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self._outbox, self._interval, self._gate = outbox, interval, gate
        self._samples: list[dict[str, float]] = []
        load_monitors()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="parapet-system-metrics", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """Write the samples that are left, and end the thread."""
        self._closing.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            with self._gate():
                monitors = _monitors()
            while not self._closing.wait(self._interval):
                with self._gate():
                    self._sample(monitors)
                if len(self._samples) >= _TOGETHER:
                    self._tell()
            self._tell()
        except Exception:  # a failed measurement must not disturb the search
            return

    def _sample(self, monitors: list[Any]) -> None:
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self._samples.append({"time": time.time(), **{f"system/{name}": float(value)
                                                      for name, value in values.items()}})

    def _tell(self) -> None:
        if self._samples and self._outbox.current is not None:
            self._outbox.system(self._outbox.current, self._samples)
            self._samples = []


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception:  # no NVIDIA driver, or its Python bindings are not installed
        return monitors
    return monitors
