"""What a search begins with or hands on is what was written: files of the cache that are damaged are measured again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.errors import WorkError
from parapet.processes.pool import Outcome
from parapet.search.course import outcome
from parapet.search.front import front
from parapet.steps import measure
from parapet.store import results
from parapet.store.keys import evaluation_key, export_key

# In these a candidate that was measured again may differ from its record: a GPU's kernels promise no identity.
_TELLING = ("status", "validation", "flops", "params")


class Mender:
    """Looks after the cache of one search.

    `info` is dataset.json; `measure_all` measures proposals and gives their outcomes in their order; `tell` is told
    what is damaged.
    """

    def __init__(self, params: Params, info: dict[str, Any], cache: Path,
                 measure_all: Callable[[list[dict[str, Any]]], list[Outcome]], tell: Callable[[str], None]) -> None:
        self.params, self.info, self.cache, self.tell = params, info, cache, tell
        self._measure_all = measure_all

    def parents(self, proposals: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]) -> None:
        """Measure again those whose weights `proposals` begin with and that are damaged; `records` is the archive."""
        known = {record["training_key"]: record for record in records}
        waiting: dict[str, dict[str, Any]] = {}

        def look(proposal: dict[str, Any]) -> None:
            key = proposal["parent"] and proposal["parent"]["training_key"]
            if key is None or key in waiting or key not in known:
                return
            if results.done(measure.folder_of(self.cache, key) / results.TRAINING, key, self.tell) is None:
                again = self._proposal(known[key])
                look(again)
                waiting[key] = again

        for proposal in proposals:
            look(proposal)
        for proposal in waiting.values():  # ancestors come first
            self._again([proposal])

    def members(self, records: Sequence[dict[str, Any]], undefended: dict[str, Any], archive: Sequence[dict[str, Any]],
                ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """`records` and `undefended` with the files of the front's members, and its own, as they were written.

        Whoever is measured again and comes out otherwise is told, and has the new numbers.
        """
        seen: set[str] = set()
        records = list(records)
        while fresh := [entry for entry in [undefended, *front(outcome(records), self.params.search.objectives)]
                        if entry["id"] not in seen]:
            seen |= {entry["id"] for entry in fresh}
            found = {entry["id"]: self._stored(entry, entry is undefended) for entry in fresh
                     if entry["status"] == "feasible"}
            damaged = [self._proposal(entry, entry is undefended) for entry in fresh
                       if entry["id"] in found and found[entry["id"]] is None]
            self.parents(damaged, archive)
            whole = {name: entry for name, entry in found.items() if entry is not None} | self._again(damaged)
            changed = {entry["id"]: whole[entry["id"]] for entry in fresh if entry["id"] in whole
                       and any(whole[entry["id"]][name] != entry[name] for name in _TELLING)}
            for name in changed:
                self.tell(f"candidate {name} was measured again and came out otherwise: its new numbers count")
            records = [changed.get(entry["id"], entry) for entry in records]
            undefended = changed.get(undefended["id"], undefended)
        return records, undefended

    def _stored(self, entry: dict[str, Any], undefended: bool) -> dict[str, Any] | None:
        """The entry as its files say; None where one of those that are handed on is damaged."""
        proposal = self._proposal(entry, undefended)
        folder = measure.folder_of(self.cache, entry["training_key"])
        if (found := measure.stored(proposal, self.params, folder, self.tell)) is not None:
            return found
        key, (trained, attacked, exported) = entry["training_key"], measure.folders(self.cache, entry, self.params)
        handed_on = ((trained / results.TRAINING, key),
                     (attacked / results.ATTACK_EVALUATION, evaluation_key(key, self.params, "attack_evaluation")),
                     (exported / results.EXPORT, export_key(key, self.params)))
        # A later look that failed has left nothing, and its record says what the looks before it had seen.
        return entry if all(results.done(path, wanted) is not None for path, wanted in handed_on) else None

    def _again(self, proposals: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found = {}
        for proposal, measured in zip(proposals, self._measure_all(proposals) if proposals else []):
            if measured.result is None:
                raise WorkError(f"candidate {proposal['id']}, whose files in the cache were damaged, could not be "
                                f"measured again: {measured.reason}; run the same command again.")
            found[proposal["id"]] = measured.result
        return found

    def _proposal(self, entry: dict[str, Any], undefended: bool = False) -> dict[str, Any]:
        """The proposal that a record came from."""
        names = ("id", "generation", "genome", "fidelity", "parent", "repeat", "final", "seed", "training_key",
                 "evaluation_key")
        return {**{name: entry[name] for name in names}, "look": entry["looks"],
                "fingerprint": self.info["fingerprint"], **({"undefended": True} if undefended else {})}
