"""What a search tells its tracker, whichever driver runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params, to_dict
from parapet.disk import sealed
from parapet.store.records import Record
from parapet.store.results import ARTIFACTS, TRAINING
from parapet.tracking.tracker import Tracker


def begin(tracker: Tracker, search_id: str, params: Params, info: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """A search on the data set that `info` describes begins, or goes on."""
    tracker.search(search_id, name=f"{info['name']} {params.threat}", params=_flat(to_dict(params)), tags=tags,
                   dataset=info)


def candidate(tracker: Tracker, search_id: str, record: Record, folders: Sequence[Path],
              info: Mapping[str, Any], tags: Mapping[str, str], *, undefended: bool) -> None:
    """A candidate is measured; its files lie in one or another of `folders`."""
    trained = next((folder / TRAINING for folder in folders if (folder / TRAINING).exists()), None)
    try:
        curves = sealed.look(trained).get("curves", []) if trained else []
    except sealed.Damaged:
        curves = []  # of a candidate that is not on the front; of its members everything is sound
    artifacts = {name: folder / file for folder in folders for name, file in ARTIFACTS.items()
                 if (folder / file).exists()}
    tracker.candidate(search_id, record.to_json(), curves, artifacts, {
        **tags, "data_fingerprint": info["fingerprint"], "undefended": str(undefended).lower()})


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
