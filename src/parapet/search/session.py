"""A search session: `ask` for the next round of proposals, measure them, `tell` their records, at the end `finish`.

It stores nothing on disk and measures nothing. The local search (`search.journal`) and one turn of the unrolled search
(`steps.candidates`) both use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from parapet.config import Params
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search import ceilings
from parapet.search.evolution import Evolution
from parapet.search.feasibility import refuse_empty_front
from parapet.search.front import front, hypervolume
from parapet.search.network_space import SearchSpace
from parapet.search.schedule import Schedule, of_generations, trained_from_scratch
from parapet.search.space import Space
from parapet.search.surrogate import Surrogate
from parapet.store import keys
from parapet.store.records import Line, Proposal, Record, Request, latest

T = TypeVar("T")


class Session:
    """The state of a search.

    records: all lines of its archive. known: the same records by `Record.line`. undefended: the record of the
    undefended reference network, None before it is measured.
    """

    def __init__(self, params: Params, info: Mapping[str, Any], device: str, *, records: Iterable[Record] = (),
                 undefended: Record | None = None, state: dict[str, Any] | None = None) -> None:
        """The search that `params` describes, on the prepared data that `info` (dataset.json) describes, on `device`.

        To resume a search, pass its `records`, its `undefended` record and its `state`. Raises InputError where the
        state is for another search space or from another version.
        """
        self.params, self.info, self.device = params, info, device
        self.schedule = new_schedule(params, info)
        if state is not None:
            self.schedule.restore(state)
        self.records, self.undefended = list(records), undefended
        self.known: dict[Line, Record] = {record.line: record for record in self.records}
        # Lines of this search's final phase; the records may also contain the final phase of another budget.
        self._finals: set[Line] = set()
        # A cache of values computed from all records, and the state it is for: an archive of thousands of records is
        # processed once per round.
        self._found: dict[str, Any] = {}
        self._found_at: tuple[Any, ...] = ()

    def ask(self, over: Callable[[], bool], *, most: int | None = None) -> list[Proposal]:
        """The proposals of the next round, the same ones until `tell` is called; empty when the search is over.

        `over` is called before each new generation and returns whether the budget is spent. A generation has at most
        `most` candidates. The first proposal of the first round is the undefended network.
        """
        requests = self.schedule.ask(self._lines(), over, most=most)
        proposals = [proposal_of(request, self.params, self.info, self.device, self.schedule.generation)
                     for request in requests]
        if self.undefended is None:
            proposals.insert(0, self._undefended_proposal())
        self._finals |= {proposal.line for proposal in proposals if proposal.final}
        return proposals

    def tell(self, proposals: Sequence[Proposal], measured: Sequence[Record]) -> list[Record]:
        """Add the records of a round, in the order of its proposals; returns those that are new lines of the archive.
        """
        fresh = []
        for proposal, record in zip(proposals, measured, strict=True):
            # The same values as read from a file, so that an interrupted and an undisturbed search do not differ.
            record = Record.from_json(json.loads(json.dumps(record.to_json())))
            if proposal.undefended:
                self.undefended = record
            elif record.line not in self.known:
                fresh.append(record)
        self.records += fresh
        self.known |= {record.line: record for record in fresh}
        if not all(proposal.undefended for proposal in proposals):
            self.schedule.tell(self._lines())
        return fresh

    def finish(self) -> list[Record]:
        """The candidates of the finished search. Raises WorkError where none of them is feasible."""
        found = self.candidates()
        refuse_empty_front(trained_from_scratch(found) or [one for one in found if one.fidelity.full] or found)
        return found

    def candidates(self) -> list[Record]:
        """One record per candidate, of the generations that the budget covers and of the final phase."""
        return self.once("candidates", lambda: latest(self._visible()))

    def front(self) -> list[Record]:
        """The current front of the candidates of full fidelity."""
        return self.once("front", self._front)

    def hypervolume(self) -> float:
        """The hypervolume of the current front, in [0, 1]."""
        search = self.params.search
        return self.once("hypervolume", lambda: hypervolume(self.front(), search.ideal, search.reference))

    def of_generations(self) -> list[Record]:
        """One record per candidate, of the generations that the budget covers, without the final phase."""
        return of_generations(self._visible())

    def once(self, name: str, work: Callable[[], T]) -> T:
        """The result of `work`, cached under `name` until a record is added, a generation ends, or the final phase
        begins."""
        schedule = self.schedule
        now = (len(self.records), len(self._finals), schedule.generation, schedule.generations, schedule.is_ending)
        if now != self._found_at:
            self._found, self._found_at = {}, now
        if name not in self._found:
            self._found[name] = work()
        found: T = self._found[name]
        return found

    def _front(self) -> list[Record]:
        scratch = trained_from_scratch(self.candidates()) if self.schedule.is_ending else []
        return front(scratch or self.candidates(), self.params.search.objectives)

    def _lines(self) -> list[Record]:
        """The records that the schedule uses: without those of the final phase of another budget."""
        return self.once("lines", lambda: [record for record in self.records
                                           if not record.final or record.line in self._finals])

    def _visible(self) -> list[Record]:
        """The lines without generations that a smaller budget does not reach; the final phase counts as part of the
        last generation."""
        last = min(self.schedule.generation, self.schedule.generations)
        return self.once("visible", lambda: [
            replace(record, generation=int(max(0, last - 1))) if record.final else record for record in self._lines()
            if record.final or record.generation < self.schedule.generations])

    def _undefended_proposal(self) -> Proposal:
        """The undefended network, trained without attacks: the reference that the front is compared with."""
        space = self.schedule.evolution.space
        plain = Request(_undefended(space, self.params, self.info), self.schedule.ladder[-1])
        return replace(proposal_of(plain, self.params, self.info, self.device, 0), undefended=True)


def new_schedule(params: Params, info: Mapping[str, Any]) -> Schedule:
    """The schedule before its first generation; `info` is the prepared data set's dataset.json."""
    search, shape = params.search, info["image_shape"]
    surrogate = None if search.surrogate == "none" else Surrogate(search.surrogate, params.seed)
    evolution = Evolution(SearchSpace(search.space, shape), population=search.population,
                          objectives=len(search.objectives), seed=params.seed,
                          admissible=ceilings.admissible(search, shape, len(info["classes"])), surrogate=surrogate,
                          oversampling=search.oversampling)
    return Schedule(evolution, search, Fidelity.ladder(search.rungs, params.training.epochs))


def proposal_of(request: Request, params: Params, info: Mapping[str, Any], device: str, generation: int) -> Proposal:
    """The request with its id, its seed and its training and evaluation keys."""
    training = keys.training_key(request, params, info["fingerprint"], device)
    return Proposal.of(
        request, id=keys.short_id(training),
        # The final phase counts as part of the last generation.
        generation=generation - request.final, seed=keys.candidate_seed(params.seed, request.genome, request.repeat),
        fingerprint=info["fingerprint"], training_key=training,
        evaluation_key=keys.evaluation_key(training, params, "attack_evaluation", request.evaluation))


def _undefended(space: Space[Genome], params: Params, info: Mapping[str, Any]) -> Genome:
    """The widest network with two blocks per stage that is within the ceilings; else the narrowest one."""
    allowed = ceilings.admissible(params.search, info["image_shape"], len(info["classes"])) or (lambda genome: True)
    sizes = [Genome(loss="standard", width=width).canonical() for width in sorted(space.choices("width"))]
    return next(filter(allowed, reversed(sizes)), sizes[0])
