"""The tracker that tracks nothing, for `tracking.enabled: false`."""

from __future__ import annotations

from typing import Any


class NullTracker:
    """Replaces `Outbox` and `BackgroundSender`: accepts everything, stores nothing, needs no MLflow."""

    def search(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    candidate = front = evaluation = finish = system = wake = search

    def pending(self, *_: Any, **__: Any) -> int:
        """Nothing ever waits."""
        return 0

    close = pending
