"""The state and the spent budget of a local search, stored in one folder so that it survives a kill at any time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.config import Params
from parapet.disk import sealed
from parapet.disk.files import digest
from parapet.errors import InputError
from parapet.genome import Point
from parapet.search.budget import Budget
from parapet.search.front import front
from parapet.search.session import Session
from parapet.store import records as store
from parapet.store.records import Proposal, Record
from parapet.store.search_folder import ARCHIVE, STATE, UNDEFENDED

# The field that names the search a file belongs to; it equals the name of the search's folder.
_OWNER = "search_id"


class Journal:
    """The session and the budget of a search, stored in the folder `home`.

    `home` holds state.json, archive.jsonl and undefended.json.
    """

    def __init__(self, home: Path, session: Session, state: Mapping[str, Any], workers: int) -> None:
        search = session.params.search
        self.home, self.session, self.workers = home, session, workers
        self.budget = Budget.parse(search.budget, search.population, search.generations)
        # Spent by earlier runs: wall-clock seconds, and seconds summed over all workers.
        self._before: float = state.get("seconds", 0.0)
        self.device_seconds: float = state.get("device_seconds", 0.0)
        self._started = time.monotonic()
        schedule = session.schedule
        self._notes_told, self._generation_told = len(schedule.notes), schedule.generation
        self._end_told = False
        # The different genomes among the first `_counted` records.
        self._points: set[Point] = set()
        self._counted = 0
        if search.budget is None:
            schedule.generations = search.generations

    @classmethod
    def open(cls, home: Path, params: Params, info: Mapping[str, Any], device: str, workers: int) -> Journal:
        """Resume the search in the folder `home`, or start a new one there, with `workers` workers on `device`.

        Raises InputError where state.json is damaged, missing, or does not match the archive.
        """
        records = store.read(home / ARCHIVE)
        state = _state(home, records)
        session = Session(params, info, device, records=records, undefended=_undefended(home),
                          state=state.get("course"))
        # The final phase runs again: existing measurements are reused, and another budget leads to another final phase.
        session.schedule.reopen()
        return cls(home, session, state, workers)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this search so far, over all its runs."""
        return self._before + time.monotonic() - self._started

    def spent(self) -> float:
        """The spent share of the budget, with the expected time for training the front from scratch included."""
        reserve = self.session.once("reserve", lambda: self._reserve(self.session.of_generations()))
        return self.budget.spent(self.genomes(), self.seconds + reserve / self.workers, self.device_seconds + reserve)

    def is_over(self) -> bool:
        """Whether the budget allows no further generation."""
        generation, search = self.session.schedule.generation, self.session.params.search
        if search.budget is None:
            return generation >= search.generations
        return generation > 0 and self.spent() >= 1

    def ask(self) -> list[Proposal]:
        """The proposals of the next round, the same ones until `tell` is called; empty when the search is over."""
        counted = self.session.params.search.budget is not None and self.budget.unit == "candidate"
        most = int(self.budget.amount) - self.genomes() if counted else None
        proposals = self.session.ask(self.is_over, most=most)
        self._save()
        return proposals

    def tell(self, proposals: Sequence[Proposal], measured: Sequence[Record]) -> None:
        """Add the records of a round, in the order of its proposals, and save."""
        fresh = self.session.tell(proposals, measured)
        undefended = self.session.undefended
        if undefended is not None and any(proposal.undefended for proposal in proposals):
            sealed.write(self.home / UNDEFENDED, {**undefended.to_json(), _OWNER: self.home.name})
        store.append(self.home / ARCHIVE, fresh)
        self._save()

    def notes(self) -> list[str]:
        """Messages that are new since the last call: about the generation that ended, and about rungs."""
        session, schedule = self.session, self.session.schedule
        told, self._notes_told = schedule.notes[self._notes_told:], len(schedule.notes)
        if schedule.generation > self._generation_told:
            self._generation_told = schedule.generation
            members = session.front()
            best = max((member.validation.robust_accuracy for member in members if member.validation), default=0.0)
            told = [f"generation {schedule.generation} is done: {len(members)} on the front, best robust accuracy "
                    f"{best:.1%} (validation, {session.params.threat}), hypervolume {session.hypervolume():.4f}", *told]
        if schedule.phase == "final" and not self._end_told:
            self._end_told = True
            told = [*told, "no generation follows; the front is now trained from scratch and evaluated again"]
        return told

    def genomes(self) -> int:
        """The number of different genomes measured so far, at any fidelity."""
        records = self.session.records
        fresh, self._counted = records[self._counted:], len(records)
        self._points |= {record.point for record in fresh
                         if not record.final and record.generation < self.session.schedule.generations}
        return len(self._points)

    def _reserve(self, records: Sequence[Record]) -> float:
        """Estimated device seconds for training from scratch those members of the front that were not."""
        trained = [(record.training_seconds, record) for record in records
                   if record.fidelity.full and record.training_seconds]
        if self.budget.unit == "candidate" or not trained:
            return 0.0
        epochs = self.session.schedule.ladder[-1].epochs
        whole = statistics.fmean(seconds * epochs / (epochs - (record.parent.epochs if record.parent else 0))
                                 for seconds, record in trained)
        search = self.session.params.search
        return whole * sum(search.final_seeds - (record.parent is None)
                           for record in front(records, search.objectives))

    def _save(self) -> None:
        records = self.session.records
        sealed.write(self.home / STATE, {
            "course": self.session.schedule.state(), "seconds": self.seconds, "device_seconds": self.device_seconds,
            "lines": len(records), "last": digest(records[-1].to_json()) if records else None,
            _OWNER: self.home.name})


def _state(home: Path, records: Sequence[Record]) -> dict[str, Any]:
    """state.json of the search in `home`, whose archive holds `records`; empty where there is no search yet.

    Raises InputError where it is damaged, missing beside a non-empty archive, or does not match the archive.
    """
    lines = len(records)
    path, advice = home / STATE, f"put it back, or move {home} away to start the search anew"
    try:
        state = sealed.look(path)
        expected, last, owner, _ = state["lines"], state["last"], state[_OWNER], state["course"]
        if type(expected) is not int or expected < 0:
            raise ValueError
    except FileNotFoundError:
        if lines:
            raise InputError(f"{path} is missing, and the archive beside it has {lines} lines; {advice}.") from None
        return {}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged, or from another version of Parapet; {advice}.") from None
    if lines < expected:
        raise InputError(f"{home / ARCHIVE} has {lines} lines, and the search had written {expected}; {advice}.")
    if owner != home.name or (expected and digest(records[expected - 1].to_json()) != last):
        raise InputError(f"{path} and {home / ARCHIVE} are not of one search, this one; {advice}.")
    return state


def _undefended(home: Path) -> Record | None:
    """The record of the undefended network; None where it is not measured yet, and where its file is damaged."""
    try:
        found = sealed.look(home / UNDEFENDED)
    except (FileNotFoundError, sealed.Damaged):
        return None
    found.pop(sealed.CHECKSUM)
    if found.pop(_OWNER, None) != home.name or schemas.problem("archive_record", found) is not None:
        return None
    return Record.from_json(found)
