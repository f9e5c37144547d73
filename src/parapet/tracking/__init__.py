"""Tracking with MLflow, which is imported only when something is sent.

The search writes events into an `Outbox` (or a `NullTracker`), a folder; a `BackgroundSender` or `flush` sends them.
"""

from parapet.tracking.background import BackgroundSender
from parapet.tracking.mlflow_tracker import Flushed, flush, run_ids
from parapet.tracking.null import NullTracker
from parapet.tracking.outbox import Outbox
from parapet.tracking.system_metrics import SystemMetrics
from parapet.tracking.task import tracked_task

__all__ = ["BackgroundSender", "Flushed", "NullTracker", "Outbox", "SystemMetrics", "flush", "run_ids", "tracked_task"]
