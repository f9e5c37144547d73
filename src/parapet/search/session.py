"""A search session: `ask` for the next round of proposals, have them measured, `tell` their records, `finish`.

It keeps nothing on disk. The local search (`steps.journal`) and a turn of the unrolled search (`steps.candidates`) both
drive it, and measure where they like.
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
    """A search and what it knows.

    records: all lines of its archive. known: the same by what distinguishes a line. undefended: the record of the
    undefended reference network, None before it is measured.
    """

    def __init__(self, params: Params, info: Mapping[str, Any], device: str, *, records: Iterable[Record] = (),
                 undefended: Record | None = None, state: dict[str, Any] | None = None) -> None:
        """The search that `params` describe on the prepared data of `info` (dataset.json), trained on `device`.

        One that goes on is given its `records`, its `undefended` network and its `state`. Raises InputError where the
        state is of another search space or version.
        """
        self.params, self.info, self.device = params, info, device
        self.schedule = new_schedule(params, info)
        if state is not None:
            self.schedule.restore(state)
        self.records, self.undefended = list(records), undefended
        self.known: dict[Line, Record] = {record.line: record for record in self.records}
        # Lines of the end of this search; another budget has another end, whose lines may be there too.
        self._finals: set[Line] = set()
        # What was worked out of all records, and when: an archive of thousands is gone through once a round.
        self._found: dict[str, Any] = {}
        self._found_at: tuple[Any, ...] = ()

    def ask(self, over: Callable[[], bool], *, most: int | None = None) -> list[Proposal]:
        """The proposals of the next round, the same ones until they are told; empty when the search is over.

        `over` says before each new generation whether the budget is spent; a generation has at most `most` candidates.
        The first round is led by the undefended network.
        """
        requests = self.schedule.ask(self._lines(), over, most=most)
        proposals = [proposal_of(request, self.params, self.info, self.device, self.schedule.generation)
                     for request in requests]
        if self.undefended is None:
            proposals.insert(0, self._undefended_proposal())
        self._finals |= {proposal.line for proposal in proposals if proposal.final}
        return proposals

    def tell(self, proposals: Sequence[Proposal], measured: Sequence[Record]) -> list[Record]:
        """The records of a round, in the order of its proposals. Returns those that are new lines of the archive."""
        fresh = []
        for proposal, record in zip(proposals, measured, strict=True):
            # As it will be read from a file, so that a search that was interrupted sees nothing else.
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
        """The candidates of the search that is over. Raises WorkError where none of them is feasible."""
        found = self.candidates()
        refuse_empty_front(trained_from_scratch(found) or [one for one in found if one.fidelity.full] or found)
        return found

    def candidates(self) -> list[Record]:
        """One record a candidate, of the generations that the budget covers and of the search's end."""
        return self.once("candidates", lambda: latest(self._visible()))

    def front(self) -> list[Record]:
        """The front of candidates of full fidelity so far."""
        return self.once("front", self._front)

    def hypervolume(self) -> float:
        """Of the front so far."""
        search = self.params.search
        return self.once("hypervolume", lambda: hypervolume(self.front(), search.ideal, search.reference))

    def of_generations(self) -> list[Record]:
        """One record a candidate of the generations that the budget covers."""
        return of_generations(self._visible())

    def once(self, name: str, work: Callable[[], T]) -> T:
        """What `work` gives, until a record is added, a generation is told, or the end begins."""
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
        """What the schedule goes by: records without those of other ends."""
        return self.once("lines", lambda: [record for record in self.records
                                           if not record.final or record.line in self._finals])

    def _visible(self) -> list[Record]:
        """Lines without those of generations that a smaller budget does not reach; the end belongs to the last one."""
        last = min(self.schedule.generation, self.schedule.generations)
        return self.once("visible", lambda: [
            replace(record, generation=int(max(0, last - 1))) if record.final else record for record in self._lines()
            if record.final or record.generation < self.schedule.generations])

    def _undefended_proposal(self) -> Proposal:
        """The middle of the family, trained without attacks: what the front has to be compared with."""
        space = self.schedule.evolution.space
        plain = Request(_undefended(space, self.params, self.info), self.schedule.ladder[-1])
        return replace(proposal_of(plain, self.params, self.info, self.device, 0), undefended=True)


def new_schedule(params: Params, info: Mapping[str, Any]) -> Schedule:
    """The search before its first generation; `info` is the prepared data set's dataset.json."""
    search, shape = params.search, info["image_shape"]
    surrogate = None if search.surrogate == "none" else Surrogate(search.surrogate, params.seed)
    evolution = Evolution(SearchSpace(search.space, shape), population=search.population,
                          objectives=len(search.objectives), seed=params.seed,
                          admissible=ceilings.admissible(search, shape, len(info["classes"])), surrogate=surrogate,
                          oversampling=search.oversampling)
    return Schedule(evolution, search, Fidelity.ladder(search.rungs, params.training.epochs))


def proposal_of(request: Request, params: Params, info: Mapping[str, Any], device: str, generation: int) -> Proposal:
    """The request with its keys, its seed and the id that it has everywhere."""
    training = keys.training_key(request, params, info["fingerprint"], device)
    return Proposal(
        **vars(request), id=keys.short_id(training),
        # What is measured after the last generation belongs to it.
        generation=generation - request.final, seed=keys.candidate_seed(params.seed, request.genome, request.repeat),
        fingerprint=info["fingerprint"], training_key=training,
        evaluation_key=keys.evaluation_key(training, params, "attack_evaluation", request.evaluation))


def _undefended(space: Space[Genome], params: Params, info: Mapping[str, Any]) -> Genome:
    """The widest network of two blocks a stage that stays below the ceilings, else the narrowest one."""
    allowed = ceilings.admissible(params.search, info["image_shape"], len(info["classes"])) or (lambda genome: True)
    sizes = [Genome(loss="standard", width=width).canonical() for width in sorted(space.choices("width"))]
    return next(filter(allowed, reversed(sizes)), sizes[0])
