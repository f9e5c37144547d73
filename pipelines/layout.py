"""Divides a search into pipeline tasks, and counts its tasks and pods."""

from __future__ import annotations

import math
from dataclasses import dataclass

from parapet.config import Params, option
from parapet.errors import InputError
from parapet.quoting import quote
from parapet.steps.candidates import refuse_rounds

# Kubeflow has no loop with a condition, so generations are unrolled, and Kubernetes limits the size of a workflow.
MAXIMUM_GENERATIONS = 8
# Kubeflow starts a driver pod before the pod of every task, and one before every loop.
PODS_A_TASK = 2


@dataclass(frozen=True)
class Layout:
    """How a search is divided into tasks.

    batch: the number of candidates that one pod trains, attacks and exports, one after the other; 0 gives each
    candidate three pods. generations_per_task: the number of generations that one task runs on its own devices; it is
    needed for more than MAXIMUM_GENERATIONS, and for searches with more than one round per generation. promote: whether
    the run ends with the promotion gate. continue_from: the address of the archive of an earlier run to continue.
    """

    batch: int = option(0, low=0, high=1000)
    generations_per_task: int | None = option(None, low=1, high=1000)
    promote: bool = option(False)
    continue_from: str | None = option(None)

    def stages(self, params: Params) -> list[int]:
        """For each search task, the total number of generations at its end.

        Raises InputError where a workflow cannot contain so many, and where settings contradict each other.
        """
        generations, each = params.search.generations, self.generations_per_task
        if each is None:
            if generations > MAXIMUM_GENERATIONS:
                raise InputError(
                    f"search.generations is {generations}, but a compiled pipeline holds at most {MAXIMUM_GENERATIONS} "
                    "of them; lower it and raise search.population, or set layout.generations_per_task in the cluster "
                    f"file, for example to {math.ceil(generations / MAXIMUM_GENERATIONS)}.")
            refuse_rounds(params)
            return list(range(1, generations + 1))
        if self.batch:
            raise InputError("layout.batch and layout.generations_per_task are both given, and a task that searches by "
                             "itself has no batches; leave one of them out.")
        if params.search.budget:
            raise InputError(f"search.budget is {quote(params.search.budget)}, and a run that is cut into tasks counts "
                             "generations; leave it out, and say how many with search.generations.")
        stages = math.ceil(generations / each)
        if stages > MAXIMUM_GENERATIONS:
            raise InputError(f"layout.generations_per_task is {each}, which makes {stages} tasks of "
                             f"{generations} generations, and a compiled pipeline holds at most {MAXIMUM_GENERATIONS}; "
                             f"set it to {math.ceil(generations / MAXIMUM_GENERATIONS)} or more.")
        return [min(generations, each * place) for place in range(1, stages + 1)]

    def tasks(self, params: Params) -> int:
        """The number of tasks of a whole run."""
        stages = len(self.stages(params))
        # The tasks data_prep, full_evaluation, front, report and outcome.
        around = 5 + self.promote
        if self.generations_per_task is not None:
            return around + stages
        loops = (math.ceil(params.search.population / self.batch) if self.batch else 3 * params.search.population)
        undefended = 0 if self.continue_from else (_more(params, self.batch) if self.batch else 3)
        return around + stages + 1 + stages * loops + undefended

    def pods(self, params: Params) -> int:
        """The number of pods of a whole run, with the drivers that Kubeflow starts before tasks and loops."""
        stages = len(self.stages(params))
        loops = 0 if self.generations_per_task is not None else stages
        return PODS_A_TASK * self.tasks(params) + loops


def _more(params: Params, batch: int) -> int:
    """The number of batches that the undefended network adds to the first generation."""
    population = params.search.population
    return math.ceil((population + 1) / batch) - math.ceil(population / batch)
