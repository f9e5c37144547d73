"""The progress display of a search: one line, or a live table of the running candidates and of the current front."""

from __future__ import annotations

import time
from collections.abc import Sequence

from parapet import log
from parapet.progress import Progress
from parapet.search.front import hypervolume
from parapet.search.journal import Journal
from parapet.store.records import Proposal
from parapet.watch import Running, Snapshot, Watch

_PERCENT = 100
# Below this share of progress an estimate of the remaining time is not reliable.
_ENOUGH = 0.02


class Display:
    """Shows the progress of a search, round by round; a context manager."""

    def __init__(self, journal: Journal, *, watch: bool) -> None:
        self.journal, self.watch = journal, watch
        counted = journal.budget.unit == "candidate"
        total = journal.budget.amount if counted else _PERCENT
        self._view: Progress | Watch = (Watch if watch else Progress)("search", total, "candidates" if counted else "%")
        self._proposals: Sequence[Proposal] = []
        self._texts: dict[int, str] = {}
        self._shares: dict[int, float] = {}
        self._started: dict[int, float] = {}
        self._begun, self._spent_before = time.monotonic(), journal.spent()
        self._round_begun = self._begun
        self._round()

    def __enter__(self) -> Display:
        self._view.__enter__()
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is None:
            self._proposals, self._texts, self._shares = [], {}, {}
            self._round()
            self._spent = 1.0
            self._view.update(self._view_total(), "done")
            if isinstance(self._view, Watch):
                self._view.show(self._snapshot(1.0))
        self._view.__exit__(kind, *error)

    def begin(self, proposals: Sequence[Proposal], missing: list[int]) -> None:
        """Start a round of `proposals`; those at the indices `missing` have to be measured."""
        self._proposals = proposals
        self._texts, self._shares = dict.fromkeys(missing, ""), dict.fromkeys(missing, 0.0)
        self._started, self._round_begun = {}, time.monotonic()
        self._round()
        self.tick()

    def moved(self, place: int, text: str, share: float) -> None:
        """Record that the proposal at index `place` is in the step `text`, with the share `share` in [0, 1] done."""
        self._started.setdefault(place, time.monotonic())
        self._texts[place], self._shares[place] = text, share

    def note(self, text: str) -> None:
        """Print `text` on a separate line, and log it."""
        log.event(text, step="search")
        self._view.note(text)

    def tick(self) -> None:
        """Redraw; called several times a second."""
        spent = self._share()
        running = [f"{self._proposals[place].id[:6]} {text}" for place, text in self._texts.items()
                   if text and self._shares[place] < 1]
        waiting = "starting workers" if any(share < 1 for share in self._shares.values()) else "done"
        self._view.update(spent * self._view_total(), f"{self._phase()}: {', '.join(running) or waiting}")
        if isinstance(self._view, Watch):
            self._view.show(self._snapshot(spent))

    def _round(self) -> None:
        """Compute the values that stay the same during a round: an archive may hold thousands of records, which is too
        many to read at every tick."""
        session = self.journal.session
        self._spent, self._front = min(1.0, self.journal.spent()), session.front()
        candidates = session.candidates()
        self._infeasible = sum(not record.is_feasible for record in candidates)
        self._evaluated, self._hypervolume = len(candidates), session.hypervolume()
        last = [record for record in self._front if record.generation < session.schedule.generation - 1]
        search = session.params.search
        self._hypervolume_before = hypervolume(last, search.ideal, search.reference) if last else None

    def _share(self) -> float:
        """The spent share of the budget, with the progress of the candidates of this generation."""
        journal = self.journal
        if journal.budget.unit != "candidate":
            return min(1.0, journal.spent())
        if journal.session.schedule.phase != "generation" or not self._proposals:
            return self._spent
        done = len(self._proposals) - len(self._shares) + sum(self._shares.values())
        size = sum(not proposal.undefended for proposal in self._proposals)
        return min(1.0, self._spent + done / len(self._proposals) * size / journal.budget.amount)

    def _phase(self) -> str:
        schedule, search = self.journal.session.schedule, self.journal.session.params.search
        epochs = schedule.ladder[min(schedule.rung, len(schedule.ladder) - 1)].epochs
        rounds = {"promotion": f", promoted to {epochs} epochs", "looks": ", the front evaluated again"}
        of = f" of {search.generations}" if search.budget is None else ""
        rounds |= dict.fromkeys(("final", "done"), ", the front from scratch")
        return f"generation {schedule.generation + (not schedule.is_ending)}{of}{rounds.get(schedule.phase, '')}"

    def _snapshot(self, spent: float) -> Snapshot:
        journal, now = self.journal, time.monotonic()
        todo = [place for place in self._texts if self._shares[place] < 1]
        # Tasks are started in their order; a worker reports no text before it has started.
        working = [place for place in todo if self._texts[place]] or todo[:journal.workers]
        running = tuple(Running(self._proposals[place].id, self._texts[place] or "starting", self._shares[place],
                                str(self._proposals[place].genome),
                                now - self._started.get(place, self._round_begun)) for place in working)
        return Snapshot(self._phase().removeprefix("generation "), running,
                        tuple(record.to_json() for record in self._front), self._hypervolume,
                        self._hypervolume_before, self._evaluated, self._infeasible, spent, str(journal.budget),
                        self._left(spent, now))

    def _left(self, spent: float, now: float) -> float | None:
        """Estimated seconds until the budget is spent, after that until the end of the round; None while the progress
        is too small for an estimate."""
        if spent < 1:
            begun, gained, left = self._begun, spent - self._spent_before, 1 - spent
        else:
            gained = sum(self._shares.values()) / max(1, len(self._shares))
            begun, left = self._round_begun, 1 - gained if self._shares else 0.0
        return 0.0 if left == 0 else (now - begun) * left / gained if gained > _ENOUGH else None

    def _view_total(self) -> float:
        return self.journal.budget.amount if self.journal.budget.unit == "candidate" else _PERCENT
