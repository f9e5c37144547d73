"""The tracker that tracks nothing, for `tracking.enabled: false`."""

from __future__ import annotations

from typing import Any


class NullTracker:
    """Stands in for `Outbox` and for `BackgroundSender`: takes everything, keeps nothing, needs no MLflow."""

    def search(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def candidate(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def front(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def evaluation(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def finish(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def system(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def pending(self) -> int:
        """Nothing ever waits."""
        return 0

    def wake(self) -> None:
        """Nothing."""

    def close(self, timeout: float = 0.0) -> int:
        """Nothing is left behind."""
        return 0
