"""What a step may tell a tracker: `Outbox` and `NullTracker` both are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Told of a search as it goes; never makes the search wait or fail."""

    def search(self, search_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any],
               dataset: Mapping[str, Any]) -> None:
        """A search began, or goes on."""

    def candidate(self, search_id: str, record: Mapping[str, Any], curves: Sequence[Mapping[str, Any]],
                  artifacts: Mapping[str, Path | str], tags: Mapping[str, Any]) -> None:
        """A candidate is done, well or badly."""

    def front(self, search_id: str, ids: Sequence[str]) -> None:
        """Who is on the front now."""

    def evaluation(self, search_id: str, candidate_id: str, metrics: Mapping[str, Any],
                   artifacts: Mapping[str, Path | str]) -> None:
        """Further measurements of a candidate."""

    def finish(self, search_id: str, metrics: Mapping[str, Any], artifacts: Mapping[str, Path | str]) -> None:
        """A search ended."""
