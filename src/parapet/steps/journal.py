"""What a search on this machine knows and has spent: its state and its archive in one folder, safe from any kill."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from parapet import schemas, sealed
from parapet.config import Params
from parapet.errors import InputError
from parapet.files import digest
from parapet.genome import Point, point
from parapet.search.budget import Budget
from parapet.search.course import Course, outcome, seen
from parapet.search.front import front, hypervolume
from parapet.steps import candidates
from parapet.store import archive, search_folder

# Which search a file belongs to: the name of its folder.
_OWNER = "search_id"
_Found = TypeVar("_Found")


class Journal:
    """The records of a search, the course that they have taken so far, and the budget.

    `home` holds state.json, archive.jsonl and undefended.json. `records` are all lines of the archive.
    """

    def __init__(self, home: Path, params: Params, info: dict[str, Any], course: Course,
                 records: list[dict[str, Any]], state: dict[str, Any], workers: int) -> None:
        search = params.search
        self.home, self.params, self.info, self.course, self.records = home, params, info, course, records
        self.workers, self.budget = workers, Budget.parse(search.budget, search.population, search.generations)
        # By earlier attempts; of the clock, and of all workers together.
        self._before: float = state.get("seconds", 0.0)
        self.device_seconds: float = state.get("device_seconds", 0.0)
        self._started = time.monotonic()
        self._told, self._generation = len(course.notes), course.generation
        # Lines of the end of this search; another budget has another end, whose lines may be there too.
        self._finals: set[tuple[Any, ...]] = set()
        # Measured in the first round; without it there is nothing to compare the front with.
        self._undefended = self.undefended() is not None
        self._ending = False
        self._known = {line_of(record): record for record in records}
        # Genomes among the first so many records.
        self._points: set[Point] = set()
        self._counted = 0
        # What was worked out of all records, and when: an archive of thousands is gone through once a round.
        self._found: dict[str, Any] = {}
        self._found_at: tuple[Any, ...] = ()
        if search.budget is None:
            course.generations = search.generations

    @classmethod
    def open(cls, home: Path, params: Params, info: dict[str, Any], workers: int) -> Journal:
        """The search in folder `home`, where it stopped, or a new one, with so many workers."""
        course, records = candidates.new_course(params, info), archive.read(home / search_folder.ARCHIVE)
        state = _state(home, records)
        if state:
            course.restore(state["course"])
        journal = cls(home, params, info, course, records, state, workers)
        # The end is gone through again: what is measured costs nothing, and a budget that has changed has another end.
        course.reopen()
        return journal

    @property
    def seconds(self) -> float:
        """Spent on this search so far, by the clock."""
        return self._before + time.monotonic() - self._started

    def spent(self) -> float:
        """The share of the budget that is gone, with what training the front from scratch will take."""
        reserve = self._once("reserve", lambda: self._reserve(seen(self._visible())))
        return self.budget.spent(self.looked_at(), self.seconds + reserve / self.workers, self.device_seconds + reserve)

    def is_over(self) -> bool:
        """Whether no generation follows."""
        if self.params.search.budget is None:
            return self.course.generation >= self.params.search.generations
        return self.course.generation > 0 and self.spent() >= 1

    def propose(self, device: str) -> list[dict[str, Any]]:
        """The proposals of the next round, the same ones until they are added; empty when the search is over."""
        counted = self.params.search.budget is not None and self.budget.unit == "candidate"
        most = int(self.budget.amount) - self.looked_at() if counted else None
        requests = self.course.ask(self._lines(), self.is_over, most=most)
        proposals = candidates.propose(self.course, requests, self.params, self.info, device,
                                       undefended=not self._undefended)
        self._finals |= {line_of(proposal) for proposal in proposals if proposal.get("final")}
        self._save()
        return proposals

    def add(self, proposals: Sequence[dict[str, Any]], fresh: list[dict[str, Any]]) -> None:
        """The records of a round, in the order of its proposals."""
        if proposals[0].get("undefended"):
            self._undefended = True
            sealed.write(self.home / search_folder.UNDEFENDED, {**fresh[0], _OWNER: self.home.name})
            fresh = fresh[1:]
            if not fresh:
                return
        known = self._known
        # As they will be read, so that a resumed search sees nothing else.
        added = [json.loads(json.dumps(entry)) for entry in fresh if line_of(entry) not in known]
        archive.append(self.home / search_folder.ARCHIVE, added)
        self.records += added
        known |= {line_of(record): record for record in added}
        self.course.tell(self._lines())
        self._save()

    def known(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Every record by what distinguishes its line."""
        return self._known

    def undefended(self) -> dict[str, Any] | None:
        """The record of the undefended network; None where it is not measured yet, or its file is damaged."""
        try:
            found = sealed.look(self.home / search_folder.UNDEFENDED)
        except (FileNotFoundError, sealed.Damaged):
            return None
        found.pop(sealed.CHECKSUM)
        if found.pop(_OWNER, None) != self.home.name:
            return None
        return found if schemas.problem("archive_record", found) is None else None

    def outcome(self) -> list[dict[str, Any]]:
        """One record a candidate, of the generations that the budget covers and of the search's end."""
        return self._once("outcome", lambda: archive.latest(self._visible()))

    def front(self) -> list[dict[str, Any]]:
        """The front of candidates of full fidelity so far."""
        return self._once("front", self._front)

    def hypervolume(self) -> float:
        """Of the front so far."""
        search = self.params.search
        return self._once("hypervolume", lambda: hypervolume(self.front(), search.ideal, search.reference))

    def notes(self) -> list[str]:
        """What is new since the last call: of the generation that ended, and of rungs."""
        told, self._told = self.course.notes[self._told:], len(self.course.notes)
        if self.course.generation > self._generation:
            self._generation = self.course.generation
            members = self.front()
            best = max((record["validation"]["robust_accuracy"] for record in members), default=0.0)
            told = [f"generation {self._generation} is done: {len(members)} on the front, best robust accuracy "
                    f"{best:.1%} (validation, {self.params.threat}), hypervolume {self.hypervolume():.4f}", *told]
        if self.course.phase == "final" and not self._ending:
            self._ending = True
            told = [*told, "no generation follows; what is left is the front: trained from scratch, looked at again"]
        return told

    def looked_at(self) -> int:
        """Genomes measured so far, at whatever fidelity."""
        fresh, self._counted = self.records[self._counted:], len(self.records)
        self._points |= {point(record["genome"]) for record in fresh
                         if not record["final"] and record["generation"] < self.course.generations}
        return len(self._points)

    def _front(self) -> list[dict[str, Any]]:
        scratch = outcome(self.outcome()) if self.course.phase in ("final", "done") else []
        return front(scratch or self.outcome(), self.params.search.objectives)

    def _visible(self) -> list[dict[str, Any]]:
        """Lines without those of generations that a smaller budget does not reach; the end belongs to the last one."""
        last = min(self.course.generation, self.course.generations)
        return self._once("visible", lambda: [
            {**record, "generation": max(0, last - 1)} if record["final"] else record for record in self._lines()
            if record["final"] or record["generation"] < self.course.generations])

    def _lines(self) -> list[dict[str, Any]]:
        """What the course goes by: records without those of other ends."""
        return self._once("lines", lambda: [record for record in self.records
                                            if not record["final"] or line_of(record) in self._finals])

    def _once(self, name: str, work: Callable[[], _Found]) -> _Found:
        """What `work` gives, until a record is added, a generation is told, or the end begins."""
        course = self.course
        ended = course.phase in ("final", "done")
        now = len(self.records), len(self._finals), course.generation, course.generations, ended
        if now != self._found_at:
            self._found, self._found_at = {}, now
        if name not in self._found:
            self._found[name] = work()
        found: _Found = self._found[name]
        return found

    def _reserve(self, records: list[dict[str, Any]]) -> float:
        """Seconds of devices for training the front from scratch, where it was not."""
        trained = [record for record in records if record["fidelity"]["full"] and record["training_seconds"]]
        if self.budget.unit == "candidate" or not trained:
            return 0.0
        epochs = self.course.ladder[-1].epochs
        whole = statistics.fmean(record["training_seconds"] * epochs / (epochs - _behind(record)) for record in trained)
        search = self.params.search
        return whole * sum(search.final_seeds - (record["parent"] is None)
                           for record in front(records, search.objectives))

    def _save(self) -> None:
        sealed.write(self.home / search_folder.STATE, {
            "course": self.course.state(), "seconds": self.seconds, "device_seconds": self.device_seconds,
            "lines": len(self.records), "last": digest(self.records[-1]) if self.records else None,
            _OWNER: self.home.name})


def _state(home: Path, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """state.json of the search in `home`, whose archive has these records; empty where there is no search yet."""
    lines = len(records)
    path, advice = home / search_folder.STATE, f"put it back, or move {home} away to start the search anew"
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
        raise InputError(f"{home / search_folder.ARCHIVE} has {lines} lines, and the search had written {expected}; "
                         f"{advice}.")
    if owner != home.name or (expected and digest(records[expected - 1]) != last):
        raise InputError(f"{path} and {home / search_folder.ARCHIVE} are not of one search, this one; {advice}.")
    return state


def _behind(record: dict[str, Any]) -> int:
    """Epochs that the training of a record did not have to do."""
    return record["parent"]["epochs"] if record["parent"] else 0


def line_of(entry: dict[str, Any]) -> tuple[Any, ...]:
    """What distinguishes a line of the archive, from its proposal or its record."""
    return entry["id"], entry["looks"] if "looks" in entry else entry["look"], entry["final"]
