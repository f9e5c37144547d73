"""A search whose candidates are measured by a formula: rounds, records, and interruptions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from parapet.config import Rung, SearchConfig
from parapet.disk.files import digest
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search.evolution import Evolution
from parapet.search.network_space import SearchSpace
from parapet.search.schedule import Schedule
from parapet.store.records import Record, Request
from tests.search.archive_records import FULL, failed, record

TWO_RUNGS = (Rung(2, 0.25, "n_fgsm"), Rung(4))
EPOCHS = 12
Round = tuple[str, list[Request]]


def schedule(seed: int = 3, population: int = 8, space: SearchSpace | None = None, **changes: Any) -> Schedule:
    """A search of three objectives; `changes` go to its SearchConfig."""
    config = SearchConfig(population=population, **changes)
    evolution = Evolution(space or SearchSpace(), population=population, objectives=3, seed=seed)
    return Schedule(evolution, config, Fidelity.ladder(config.rungs, EPOCHS))


def revived(old: Schedule) -> Schedule:
    """Through strict JSON, into a search that began with another seed."""
    state = json.loads(json.dumps(old.state(), allow_nan=False))
    new = Schedule(Evolution(old.evolution.space, population=old.evolution.population, objectives=3, seed=999),
                 old.config, old.ladder)
    new.restore(state)
    assert new.state() == state
    return new


def measured(request: Request, generation: int, *, agree: float = 1.0) -> Record:
    """The record of a request: better with size and epochs, and with luck of its own for each fidelity, evaluation and
    repeat.

    With `agree` -1 what is best on cheap rungs is worst with full training.
    """
    genome, fidelity = request.genome, request.fidelity
    rung = FULL if fidelity.full else fidelity.rung
    common = {"genome": genome, "rung": rung, "generation": generation}
    if hopeless(genome):
        return failed(**common, fidelity=fidelity.to_dict(), final=request.final, repeat=request.repeat)
    size, parent = genome.width * genome.depth, request.parent and vars(request.parent)
    luck = int(digest([genome.digest(), fidelity.epochs, request.evaluation, request.repeat, parent])[:8], 16) / 2**32
    quality = 0.01 * size ** 0.5 + 0.05 * (genome.loss == "trades") + 0.05 * (genome.activation == "silu")
    robust = 0.2 + 0.02 * fidelity.epochs + quality * (1 if fidelity.full else agree) + 0.02 * luck
    return record(min(1.0, robust + 0.3 - 0.01 * genome.steps), robust, 1000 * size, **common, parent=parent,
                  repeat=request.repeat, looks=request.evaluation, fidelity=fidelity.to_dict(), final=request.final)


def hopeless(genome: Genome) -> bool:
    """Genomes whose training always fails."""
    return genome.denoiser == "median" and genome.width > 8


def run(search: Schedule, generations: int, records: list[Record] | None = None, *, interrupt: bool = False,
        shuffle: random.Random | None = None, agree: float = 1.0,
        answer: Callable[..., Record] = measured) -> tuple[Schedule, list[Round], list[Record]]:
    """The search to its end after so many generations: its rounds, (phase, requests) each, and its records."""
    records, rounds = list(records or []), []
    while requests := search.ask(records, lambda now=search: now.generation >= generations):
        if interrupt:
            search = revived(search)
            assert search.ask(records, lambda: False) == requests
        rounds.append((search.phase, requests))
        fresh = [answer(request, search.generation, agree=agree) for request in requests]
        if shuffle:
            shuffle.shuffle(fresh)
        records += fresh
        search.tell(records)
        if interrupt:
            search = revived(search)
        assert len(rounds) < 500, "the search does not end"
    return search, rounds, records


def phases(rounds: Sequence[Round]) -> list[tuple[str, int]]:
    """What each round is for, and at which rung."""
    return [(phase, requests[0].fidelity.rung) for phase, requests in rounds]
