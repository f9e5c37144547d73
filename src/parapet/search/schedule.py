"""The schedule of a search: rounds of candidates that can be measured side by side, and what follows from each round.

A generation is asked of NSGA-II at the lowest rung; of each rung the best are promoted to the next, up to full training
(synchronous successive halving by non-dominated rank, in the manner of MO-ASHA, Schmucker et al. 2021); members of the
front are evaluated again; and only then is NSGA-II told. In the end the front is trained from scratch. What comes next
depends on records alone, never on who was ready first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from parapet.config import SearchConfig
from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome, point
from parapet.search import estimate, parents
from parapet.search.evolution import Evolution
from parapet.search.front import front, rank_order
from parapet.store.records import Parent, Record, Request, latest

SCHEMA_VERSION = 1
# Kendall's tau of fewer candidates says nothing.
_ENOUGH = 8
# What a round is for; "looks" are further evaluations of the front. state.json holds these words.
PHASES = ("generation", "promotion", "looks", "final", "done")


class Schedule:
    """`ask` for a round, have it measured, `tell`; `state` between the two, as JSON.

    `records` are always all lines of the archive; those of a round are there when it is told.
    """

    def __init__(self, evolution: Evolution[Genome], config: SearchConfig, ladder: list[Fidelity]) -> None:
        self.evolution, self.config, self.ladder = evolution, config, ladder
        self.phase, self.rung, self.start = "generation", 0, 0
        self.pending: list[Request] | None = None
        self.notes: list[str] = []
        # The end is that of so many generations: a longer search may have been here before.
        self.generations = math.inf

    @property
    def generation(self) -> int:
        """How many generations NSGA-II has been told."""
        return self.evolution.generation

    @property
    def is_ending(self) -> bool:
        """Whether no generation follows."""
        return self.phase in ("final", "done")

    def ask(self, records: Sequence[Record], over: Callable[[], bool], *, most: int | None = None) -> list[Request]:
        """The requests of this round, the same ones until they are told; empty when the search is over.

        `over` says before each new generation whether the budget is spent; a generation has at most `most` candidates.
        """
        while self.pending is None and self.phase != "done":
            if self.phase == "generation" and over():
                self.finish()
            requests = self._requests(of_generations(records), records, most)
            if requests:
                self.pending = requests
            elif self.phase == "generation":  # the space is exhausted
                self.finish()
            else:
                self._advance(records)
        return self.pending or []

    def tell(self, records: Sequence[Record]) -> None:
        """The round is measured, and `records` hold it."""
        self.pending = None
        self._advance(records)

    def finish(self) -> None:
        """What is left is the end of the search. Between rounds, once a generation has been told."""
        if not self.is_ending:
            self.phase, self.pending, self.evolution.pending = "final", None, None

    def reopen(self) -> None:
        """The budget has grown since the search ended."""
        if self.is_ending:
            self.phase, self.pending = "generation", None

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as strict JSON."""
        return {"schema_version": SCHEMA_VERSION, "evolution": self.evolution.state(), "phase": self.phase,
                "rung": self.rung, "start": self.start, "notes": self.notes,
                "pending": None if self.pending is None else [request.to_json() for request in self.pending]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        if state.get("schema_version") != SCHEMA_VERSION or "evolution" not in state:
            raise InputError(f"the search's state is not one of version {SCHEMA_VERSION}, which this Parapet reads; "
                             "start in another folder, or use the Parapet that wrote it.")
        self.evolution.restore(state["evolution"])
        self.phase, self.rung, self.start = state["phase"], state["rung"], state["start"]
        self.notes = list(state["notes"])
        self.pending = None if state["pending"] is None else [Request.from_json(entry) for entry in state["pending"]]

    def _requests(self, known: list[Record], records: Sequence[Record], most: int | None) -> list[Request]:
        if self.phase == "generation":
            return self._next_generation(known, most)
        if self.phase == "promotion":
            return self._promotions(known)
        if self.phase == "looks":
            return self._evaluations(front(known, self.config.objectives), final=False)
        return self._end(records)

    def _next_generation(self, known: list[Record], most: int | None) -> list[Request]:
        surrogate = self.evolution.surrogate
        history = estimate.history(known, self.start, self.config.objectives, surrogate.memory) if surrogate else ()
        genomes = self.evolution.ask(history)
        pending = self.evolution.pending
        if most is not None and most < len(genomes) and pending is not None:
            self.evolution.pending = pending[:most]
            genomes = genomes[:most]
        measured = {record.point for record in known}
        if all(point(genome.to_dict()) in measured for genome in genomes):
            return []
        population = {point(member.to_dict()) for member in self.evolution.members} if self.config.warm_start else set()
        bred_from = [record for record in known if record.point in population] if population else []
        return [Request(genome, self.ladder[self.start], self._inherited(genome, bred_from)) for genome in genomes]

    def _inherited(self, genome: Genome, bred_from: list[Record]) -> Parent | None:
        if self.config.full_from_scratch and self.ladder[self.start].full:
            return None
        found = parents.nearest(self.evolution.space, genome, bred_from)
        return None if found is None else Parent(found.training_key, "inherited", 0)

    def _promotions(self, known: list[Record]) -> list[Request]:
        """The best of the rung below that have not been promoted yet."""
        below = [record for record in known if record.fidelity.rung == self.rung - 1]
        above = {record.point for record in known if record.fidelity.rung == self.rung}
        quota = math.ceil(len(below) / self.config.reduction)
        best = [below[place] for place in rank_order(below, self.config.objectives)[:quota]]
        # One that failed would fail again.
        return [Request(record.genome, self.ladder[self.rung], self._goes_on_from(record)) for record in best
                if record.point not in above and record.violation is not None
                and record.violation < estimate.HOPELESS]

    def _goes_on_from(self, record: Record) -> Parent | None:
        if self.config.full_from_scratch and self.ladder[self.rung].full:
            return None
        return Parent(record.training_key, "promoted", record.fidelity.epochs)

    def _evaluations(self, members: list[Record], *, final: bool) -> list[Request]:
        """Another evaluation of the `members` that have had too few: the luck of one must not last for ever."""
        return [replace(record.request, evaluation=record.evaluations + 1, final=final) for record in members
                if record.evaluations < self.config.evaluations]

    def _end(self, records: Sequence[Record]) -> list[Request]:
        """The front from scratch; then its other seeds, and further evaluations of what is new in it."""
        records = [record for record in records if record.final or record.generation < self.generations]
        known = of_generations(records)
        have = {(record.point, record.repeat) for record in latest(records)
                if record.fidelity.full and record.parent is None}
        wanted = [Request(member.genome, self.ladder[-1], final=True)
                  for member in front(known, self.config.objectives)]
        if fresh := [request for request in wanted if (point(request.genome.to_dict()), 0) not in have]:
            return fresh
        members = front(trained_from_scratch(records), self.config.objectives)
        repeats = [Request(member.genome, self.ladder[-1], repeat=repeat, final=True)
                   for repeat in range(1, self.config.final_seeds) for member in members
                   if (member.point, repeat) not in have]
        return repeats or self._evaluations(members, final=True)

    def _advance(self, records: Sequence[Record]) -> None:
        """The round that comes after this one; at the end of a generation NSGA-II is told."""
        last = len(self.ladder) - 1
        if self.phase == "generation":
            self.phase, self.rung = ("promotion", self.start + 1) if self.start < last else ("looks", self.rung)
        elif self.phase == "promotion":
            self.phase, self.rung = ("promotion", self.rung + 1) if self.rung < last else ("looks", self.rung)
        elif self.phase == "looks":
            self._tell_evolution(of_generations(records))
            self.phase = "generation"
        elif self.phase == "final" and not self._end(records):
            self.phase = "done"

    def _tell_evolution(self, known: list[Record]) -> None:
        asked, members = self.evolution.ask(), self.evolution.members
        values = estimate.at_full_fidelity([*members, *asked], known, self.ladder, self.config.objectives)
        self.evolution.revise({genome: values[genome] for genome in members if genome in values})
        told = [values.get(genome, (None, 0.0)) for genome in asked]
        self.evolution.tell([row for row, _ in told], [violation for _, violation in told])
        self._skip_rungs_that_mislead(known)

    def _skip_rungs_that_mislead(self, known: list[Record]) -> None:
        """Begin a rung higher where the lowest one orders candidates differently from full training."""
        if self.start == len(self.ladder) - 1:
            return
        agreement = estimate.agreement(known, self.start, len(self.ladder) - 1)
        low, full = self.ladder[self.start].epochs, self.ladder[-1].epochs
        if agreement["n"] < _ENOUGH:
            return
        # Where all candidates are equal on the rung, it says nothing of them.
        tau = agreement["tau"] or 0.0
        text = (f"robust accuracy after {low} and after {full} epochs: rank correlation {tau:.2f} "
                f"(Kendall's tau, {agreement['n']} promoted candidates)")
        if tau < self.config.minimum_rank_correlation:
            self.start += 1
            text += (f", below search.minimum_rank_correlation {self.config.minimum_rank_correlation:g}: from now on "
                     f"candidates begin with {self.ladder[self.start].epochs} epochs")
        self.notes.append(text)


def of_generations(records: Sequence[Record]) -> list[Record]:
    """What NSGA-II goes by: one record a candidate, without those of the search's end."""
    return latest([record for record in records if not record.final])


def trained_from_scratch(records: Sequence[Record]) -> list[Record]:
    """Candidates of full fidelity, trained from scratch, with the first seed: among them is the front."""
    return [record for record in latest(records)
            if record.fidelity.full and record.parent is None and record.repeat == 0]
