"""Provides the records of one round of proposals: from the journal, from the cache, or measured by the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from parapet import log
from parapet.disk.files import write_text
from parapet.processes.pool import Task, TaskResult, Workers
from parapet.search import lost
from parapet.search.display import Display
from parapet.search.feasibility import infeasible_record
from parapet.search.journal import Journal
from parapet.steps import measure
from parapet.steps.mending import Mender
from parapet.store.records import Proposal, Record
from parapet.tracking import search_runs
from parapet.tracking.tracker import Tracker


class Bench:
    """Measures the candidates of one search, and reports each to the display and the tracker."""

    def __init__(self, journal: Journal, dataset: Path, cache: Path, workers: Workers, display: Display,
                 tracker: Tracker, search_id: str, tags: Mapping[str, str]) -> None:
        """`cache` is the folder of the candidate cache; `tags` are set on every tracked run."""
        self.journal, self.dataset, self.cache, self.workers = journal, dataset, cache, workers
        self.display, self.tracker, self.search_id, self.tags = display, tracker, search_id, tags
        self.params, self.info = journal.session.params, journal.session.info
        self.mender = Mender(self.params, self.info, cache, self._measure_all, display.note)

    def measure(self, proposals: Sequence[Proposal]) -> list[Record]:
        """The archive records of `proposals`, in their order.

        Raises WorkError where too many of them are lost (`search.lost`). The lost ones then get no record, so that the
        next run tries them again.
        """
        session, display = self.journal.session, self.display
        found = [session.known.get(proposal.line) or self._cached(proposal) for proposal in proposals]
        missing = [place for place, record in enumerate(found) if record is None]
        display.begin(proposals, missing)
        for proposal, record in zip(proposals, found):
            if record is not None:
                self._tell(proposal, record)
        self.mender.parents([proposals[place] for place in missing], session.records)
        tasks = [self._task(proposals[place]) for place in missing]
        failed: dict[int, TaskResult] = {}
        for index, result in self.workers.run(
                tasks, lambda index, text, share: display.moved(missing[index], text, share), display.tick):
            place = missing[index]
            proposal = proposals[place]
            display.moved(place, "", 1.0)
            self.journal.device_seconds += result.seconds
            if result.trace:
                write_text(measure.folder_of(self.cache, proposal.training_key) / "failure.txt", result.trace)
            if result.result is not None:
                found[place] = record = Record.from_json(result.result)
                self._tell(proposal, record)
                continue
            failed[place] = result
            if result.lost:
                display.note(result.reason or "")
        lost.refuse_too_many([(result.lost, result.reason or "") for result in failed.values() if result.lost],
                             len(proposals))
        for place, result in failed.items():
            found[place] = record = self._failed(proposals[place], result)
            self._tell(proposals[place], record)
        return [record for record in found if record is not None]

    def _cached(self, proposal: Proposal) -> Record | None:
        # A candidate cached by another search may exceed this search's latency ceiling, which only a worker measures.
        if self.params.search.maximum_latency_ms is not None:
            return None
        folder = measure.folder_of(self.cache, proposal.training_key)
        return measure.stored(proposal, self.params, folder, self.display.note)

    def _task(self, proposal: Proposal) -> Task:
        return measure.task(proposal, self.params, self.dataset, self.cache, self.info,
                            self.tags.get("git_revision", "unknown"))

    def _measure_all(self, proposals: list[Proposal]) -> list[TaskResult]:
        finished = self.workers.run([self._task(proposal) for proposal in proposals], on_wait=self.display.tick)
        return [result for _, result in sorted(finished, key=lambda each: each[0])]

    def _failed(self, proposal: Proposal, result: TaskResult) -> Record:
        """The record of a candidate whose task failed: the one of its earlier evaluations if there are any, else an
        infeasible one."""
        known = self.journal.session.known
        before = [known.get((proposal.id, number, final)) for number in range(1, proposal.evaluation)
                  for final in (False, True)]
        if measured := [record for record in before if record is not None]:
            return replace(measured[-1], evaluations=proposal.evaluation, final=proposal.final,
                           generation=proposal.generation)
        return infeasible_record(proposal, result.reason, self.params)

    def _tell(self, proposal: Proposal, record: Record) -> None:
        block = record.validation
        log.event(record.reason or record.status, step="search", candidate=record.id, status=record.status,
                  generation=record.generation,
                  validation={"clean_accuracy": block and block.clean_accuracy,
                              "robust_accuracy": block and block.robust_accuracy})
        folders = measure.folders(self.cache, record.training_key, self.params)
        search_runs.candidate(self.tracker, self.search_id, record, folders, self.info, self.tags,
                              undefended=proposal.undefended)
