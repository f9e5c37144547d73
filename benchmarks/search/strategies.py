"""The searches that are replayed: Parapet's own with and without its ways to save training, and two others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.search import setting
from benchmarks.search.replay import Replay, Table
from parapet.config import Rung
from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search.evolution import Evolution
from parapet.search.front import measured_objectives
from parapet.search.network_space import SearchSpace
from parapet.search.schedule import Schedule
from parapet.search.surrogate import Surrogate
from parapet.store.records import Request

# Optuna breeds the same genomes again and again, and a proposal that is known costs nothing.
_PATIENCE = 40


@dataclass(frozen=True)
class Limit:
    """A search ends with `trainings` full trainings from scratch or after `seconds` of training."""

    trainings: int | None = None
    seconds: float = math.inf

    def over(self, replay: Replay) -> bool:
        """Whether nothing is left."""
        return replay.seconds >= self.seconds or (self.trainings is not None and replay.trainings >= self.trainings)


Strategy = Callable[[Table, int, int, Limit], Replay]


def schedule(*, retrained: bool = True, **changes: Any) -> Strategy:
    """Parapet's own schedule of a search, with `changes` to the tabulated search section of params.yaml.

    Without `retrained` it is judged by its networks as it found them, which Parapet never hands over.
    """
    def search(table: Table, seed: int, population: int, limit: Limit) -> Replay:
        config = replace(setting.params().search, population=population, **changes)
        surrogate = None if config.surrogate == "none" else Surrogate(config.surrogate, seed)
        evolution = Evolution(
            SearchSpace(setting.SPACE, setting.IMAGE_SHAPE), population=population, objectives=len(config.objectives),
            seed=seed, admissible=table.__contains__, surrogate=surrogate, oversampling=config.oversampling)
        run, replay = (Schedule(evolution, config, Fidelity.ladder(config.rungs, setting.EPOCHS)),
                       Replay(table, config, retrained=retrained))
        while requests := run.ask(replay.records, lambda: limit.over(replay), most=_left(replay, limit)):
            for request in requests:
                replay.answer(request)
            run.tell(replay.records)
        return replay
    return search


def random(table: Table, seed: int, population: int, limit: Limit) -> Replay:
    """Full trainings of genomes drawn evenly, none twice."""
    replay = _full_fidelity(table)
    for place in np.random.default_rng(seed).permutation(len(table)):
        if limit.over(replay):
            break
        replay.answer(Request(table.genomes[place], setting.ladder()[-1]))
    return replay


def optuna(table: Table, seed: int, population: int, limit: Limit) -> Replay:
    """Optuna's NSGAIISampler at full fidelity, with its own defaults otherwise.

    It is asked for every gene in every trial: genes that depend on another would be drawn at random, outside its
    crossover. Trials outside a partial table fail and cost nothing.
    """
    library = _optuna()
    study = library.create_study(directions=["minimize"] * 3,
                                 sampler=library.samplers.NSGAIISampler(population_size=population, seed=seed))
    space, replay = SearchSpace(setting.SPACE, setting.IMAGE_SHAPE), _full_fidelity(table)
    for _ in range(_PATIENCE * len(table)):
        if limit.over(replay) or len(replay.records) == len(table):
            break
        trial = study.ask()
        genome = suggested(trial, space)
        values = None
        if genome in table:
            record = replay.answer(Request(genome, setting.ladder()[-1]))
            values = measured_objectives(record, replay.config.objectives)
        if values is None:
            study.tell(trial, state=library.trial.TrialState.FAIL)
        else:
            trial.set_constraint("clean_accuracy", record.violation)
            study.tell(trial, values)
    return replay


# The rung of 3 epochs orders candidates hardly better than chance.
_MIDDLE = (Rung(epochs=9),)
STRATEGIES: dict[str, Strategy] = {
    "plain NSGA-II": schedule(rungs=()),
    "with rungs": schedule(),
    "rungs, warm starts": schedule(warm_start=True),
    "rung of 9, full from scratch": schedule(rungs=_MIDDLE, full_from_scratch=True),
    "rung of 9, warm starts": schedule(rungs=_MIDDLE, warm_start=True),
    "rung of 9, warm starts, as found": schedule(rungs=_MIDDLE, warm_start=True, retrained=False),
    "plain, forest": schedule(rungs=(), surrogate="forest"),
    "random search": random,
    "Optuna NSGAIISampler": optuna,
}
PLAIN = "plain NSGA-II"


def optuna_version() -> str:
    """The version of the Optuna that is compared."""
    return _optuna().__version__


def _left(replay: Replay, limit: Limit) -> int | None:
    return None if limit.trainings is None else max(1, limit.trainings - replay.trainings)


def _full_fidelity(table: Table) -> Replay:
    return Replay(table, replace(setting.params().search, rungs=()))


def suggested(trial: Any, space: SearchSpace) -> Genome:
    """The genome of an Optuna trial, which is asked for every gene that has a choice."""
    vector = [0 if len(gene.choices) == 1
              else trial.suggest_int(gene.name, 0, len(gene.choices) - 1) if gene.ordered
              else gene.choices.index(trial.suggest_categorical(gene.name, gene.choices)) for gene in space.genes]
    return space.decode(vector)


def _optuna() -> Any:
    try:
        import optuna as library
    except ImportError:
        raise InputError("Optuna, which Parapet is compared with, is not installed; "
                         "run `pip install -e '.[benchmark]'`.") from None
    library.logging.set_verbosity(library.logging.WARNING)
    return library
