"""Tracking with MLflow: the one place that imports it, and only when something is sent.

The search tells an `Outbox` (or a `NullTracker`), which is a folder; a `BackgroundSender` or `flush` sends it.
"""

from parapet.tracking.background import BackgroundSender
from parapet.tracking.mlflow_tracker import Flushed, flush, run_ids
from parapet.tracking.null import NullTracker
from parapet.tracking.outbox import Outbox
from parapet.tracking.system_metrics import SystemMetrics
from parapet.tracking.task import tracked_task

__all__ = ["BackgroundSender", "Flushed", "NullTracker", "Outbox", "SystemMetrics", "flush", "run_ids", "tracked_task"]
