"""Checks the cached files that a search starts from or delivers, and measures candidates with damaged files again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.errors import WorkError
from parapet.processes.pool import TaskResult
from parapet.search.front import front
from parapet.search.schedule import trained_from_scratch
from parapet.steps import measure
from parapet.store import results
from parapet.store.keys import evaluation_key, export_key
from parapet.store.records import Proposal, Record

# The fields in which a repeated measurement is compared with the record; GPU kernels are not deterministic.
_TELLING = ("status", "validation", "flops", "params")


class Mender:
    """Checks and repairs the cache of one search.

    `info` is the content of dataset.json; `measure_all` measures proposals and returns their results in the same order;
    `tell` is called with a sentence about each damaged file.
    """

    def __init__(self, params: Params, info: Mapping[str, Any], cache: Path,
                 measure_all: Callable[[list[Proposal]], list[TaskResult]], tell: Callable[[str], None]) -> None:
        self.params, self.cache, self.tell = params, cache, tell
        self._fingerprint, self._measure_all = info["fingerprint"], measure_all

    def parents(self, proposals: Sequence[Proposal], records: Sequence[Record]) -> None:
        """Measure ancestors of `proposals` again whose files in the cache are damaged; `records` is the archive."""
        known = {record.training_key: record for record in records}
        waiting: dict[str, Proposal] = {}

        def visit(proposal: Proposal) -> None:
            key = proposal.parent.training_key if proposal.parent else None
            if key is None or key in waiting or key not in known:
                return
            if results.done(measure.folder_of(self.cache, key) / results.TRAINING, key, self.tell) is None:
                again = known[key].proposal(self._fingerprint)
                visit(again)
                waiting[key] = again

        for proposal in proposals:
            visit(proposal)
        for proposal in waiting.values():  # each one after its ancestors
            self._again([proposal])

    def members(self, records: Sequence[Record], undefended: Record,
                archive: Sequence[Record]) -> tuple[list[Record], Record]:
        """Check the files of the front's members and of `undefended`, and measure those with damaged files again.

        `archive` has all records of the search. Returns `records` and `undefended`: where a repeated measurement gives
        other numbers, the record has the new ones, and `tell` is called. Raises WorkError where one fails.
        """
        seen: set[str] = set()
        records, objectives = list(records), self.params.search.objectives
        while fresh := [record for record in [undefended, *front(trained_from_scratch(records), objectives)]
                        if record.id not in seen]:
            seen |= {record.id for record in fresh}
            proposals = {record.id: record.proposal(self._fingerprint, undefended=record is undefended)
                         for record in fresh if record.is_feasible}
            found = {record.id: self._stored(record, proposals[record.id]) for record in fresh
                     if record.id in proposals}
            damaged = [proposals[name] for name, record in found.items() if record is None]
            self.parents(damaged, archive)
            whole = {name: record for name, record in found.items() if record is not None} | self._again(damaged)
            changed = {record.id: whole[record.id] for record in fresh if record.id in whole
                       and any(getattr(whole[record.id], name) != getattr(record, name) for name in _TELLING)}
            for name in changed:
                self.tell(f"candidate {name} was measured again and came out otherwise: its new numbers count")
            records = [changed.get(record.id, record) for record in records]
            undefended = changed.get(undefended.id, undefended)
        return records, undefended

    def _stored(self, record: Record, proposal: Proposal) -> Record | None:
        """The record that the files in the cache give; None where a file that the search delivers is damaged."""
        key = record.training_key
        if (found := measure.stored(proposal, self.params, measure.folder_of(self.cache, key), self.tell)) is not None:
            return found
        trained, attacked, exported = measure.folders(self.cache, key, self.params)
        handed_on = ((trained / results.TRAINING, key),
                     (attacked / results.ATTACK_EVALUATION, evaluation_key(key, self.params, "attack_evaluation")),
                     (exported / results.EXPORT, export_key(key, self.params)))
        # A repeated evaluation that failed left no file; the record then has the results of the earlier evaluations.
        return record if all(results.done(path, wanted) is not None for path, wanted in handed_on) else None

    def _again(self, proposals: list[Proposal]) -> dict[str, Record]:
        found = {}
        for proposal, measured in zip(proposals, self._measure_all(proposals) if proposals else []):
            if measured.result is None:
                raise WorkError(f"candidate {proposal.id}, whose files in the cache were damaged, could not be "
                                f"measured again: {measured.reason}; run the same command again.")
            found[proposal.id] = Record.from_json(measured.result)
        return found
