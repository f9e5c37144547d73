"""The schedule of a search: rounds of candidates that can be measured in parallel, and the next step after each round.

NSGA-II proposes a generation at the lowest rung. The best candidates of each rung are promoted to the next, up to full
training (synchronous successive halving by non-dominated rank, as in MO-ASHA, Schmucker et al. 2021). Then the members
of the front are evaluated again, and NSGA-II receives the results. At the end the front is trained from scratch. The
next round depends only on the records, never on the order in which candidates finish.
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
# With fewer candidates Kendall's tau is not meaningful.
_ENOUGH = 8
# The kinds of round; "looks" are further evaluations of the front. state.json contains these words.
PHASES = ("generation", "promotion", "looks", "final", "done")


class Schedule:
    """Call `ask` for a round, measure it, then call `tell`; `state` can be saved between the two, as JSON.

    The argument `records` is always all lines of the archive; at `tell` it includes those of the round.
    """

    def __init__(self, evolution: Evolution[Genome], config: SearchConfig, ladder: list[Fidelity]) -> None:
        self.evolution, self.config, self.ladder = evolution, config, ladder
        self.phase, self.rung, self.start = "generation", 0, 0
        self.pending: list[Request] | None = None
        self.notes: list[str] = []
        # The final phase covers only so many generations; the records may come from a longer search.
        self.generations = math.inf

    @property
    def generation(self) -> int:
        """The number of generations whose results NSGA-II has received."""
        return self.evolution.generation

    @property
    def is_ending(self) -> bool:
        """Whether the search is in its final phase or finished, so that no generation follows."""
        return self.phase in ("final", "done")

    def ask(self, records: Sequence[Record], over: Callable[[], bool], *, most: int | None = None) -> list[Request]:
        """The requests of this round, the same ones until `tell` is called; empty when the search is over.

        `over` is called before each new generation and returns whether the budget is spent. A generation has at most
        `most` candidates.
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
        """Continue after a round whose records are in `records`."""
        self.pending = None
        self._advance(records)

    def finish(self) -> None:
        """Go to the final phase of the search; to be called between rounds, after the `tell` of a generation."""
        if not self.is_ending:
            self.phase, self.pending, self.evolution.pending = "final", None, None

    def reopen(self) -> None:
        """Return from the final phase to generations, because the budget may have grown."""
        if self.is_ending:
            self.phase, self.pending = "generation", None

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as strict JSON."""
        return {"schema_version": SCHEMA_VERSION, "evolution": self.evolution.state(), "phase": self.phase,
                "rung": self.rung, "start": self.start, "notes": self.notes,
                "pending": None if self.pending is None else [request.to_json() for request in self.pending]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises InputError where it is from another version or for another space."""
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
        """Requests for the best candidates of the rung below that have not been promoted yet."""
        below = [record for record in known if record.fidelity.rung == self.rung - 1]
        above = {record.point for record in known if record.fidelity.rung == self.rung}
        quota = math.ceil(len(below) / self.config.reduction)
        best = [below[place] for place in rank_order(below, self.config.objectives)[:quota]]
        # A candidate that failed would fail again.
        return [Request(record.genome, self.ladder[self.rung], self._goes_on_from(record)) for record in best
                if record.point not in above and record.violation is not None
                and record.violation < estimate.HOPELESS]

    def _goes_on_from(self, record: Record) -> Parent | None:
        if self.config.full_from_scratch and self.ladder[self.rung].full:
            return None
        return Parent(record.training_key, "promoted", record.fidelity.epochs)

    def _evaluations(self, members: list[Record], *, final: bool) -> list[Request]:
        """Requests for one more evaluation of `members` that have too few: one lucky evaluation must not keep a
        candidate on the front."""
        return [replace(record.request, evaluation=record.evaluations + 1, final=final) for record in members
                if record.evaluations < self.config.evaluations]

    def _end(self, records: Sequence[Record]) -> list[Request]:
        """Requests to train the front from scratch; after that, to train it with other seeds; after that, to evaluate
        again its members that have too few evaluations."""
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
        """Go to the next round; at the end of a generation pass its results to NSGA-II."""
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
        """Start one rung higher where the lowest rung ranks candidates differently from full training."""
        if self.start == len(self.ladder) - 1:
            return
        agreement = estimate.agreement(known, self.start, len(self.ladder) - 1)
        low, full = self.ladder[self.start].epochs, self.ladder[-1].epochs
        if agreement["n"] < _ENOUGH:
            return
        # tau is None where all candidates are equal on the rung: then the rung gives no ranking.
        tau = agreement["tau"] or 0.0
        text = (f"robust accuracy after {low} and after {full} epochs: rank correlation {tau:.2f} "
                f"(Kendall's tau, {agreement['n']} promoted candidates)")
        if tau < self.config.minimum_rank_correlation:
            self.start += 1
            text += (f", below search.minimum_rank_correlation {self.config.minimum_rank_correlation:g}: from now on "
                     f"candidates begin with {self.ladder[self.start].epochs} epochs")
        self.notes.append(text)


def of_generations(records: Sequence[Record]) -> list[Record]:
    """The records that NSGA-II uses: one per candidate, without those of the final phase."""
    return latest([record for record in records if not record.final])


def trained_from_scratch(records: Sequence[Record]) -> list[Record]:
    """Records of full fidelity, trained from scratch with the first seed: the final front is chosen from these."""
    return [record for record in latest(records)
            if record.fidelity.full and record.parent is None and record.repeat == 0]
