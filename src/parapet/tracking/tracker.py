"""The interface of trackers: `Outbox` and `NullTracker` implement it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes the events of a search; never makes the search wait or fail."""

    def search(self, search_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any],
               dataset: Mapping[str, Any]) -> None:
        """A search began, or was resumed."""

    def candidate(self, search_id: str, record: Mapping[str, Any], curves: Sequence[Mapping[str, Any]],
                  artifacts: Mapping[str, Path | str], tags: Mapping[str, Any]) -> None:
        """A candidate is done, well or badly."""

    def front(self, search_id: str, ids: Sequence[str]) -> None:
        """Which candidates are on the front now."""

    def evaluation(self, search_id: str, candidate_id: str, metrics: Mapping[str, Any],
                   artifacts: Mapping[str, Path | str]) -> None:
        """Further measurements of a candidate."""

    def finish(self, search_id: str, metrics: Mapping[str, Any], artifacts: Mapping[str, Path | str]) -> None:
        """A search ended."""
