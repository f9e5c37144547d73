"""Measures how long a training step takes: a few real ones, attack and descent, timed by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from parapet.catalogue.crafting import CRAFTINGS
from parapet.catalogue.losses import LOSSES
from parapet.genome import Genome
from parapet.training.loop import train
from parapet.training.run import TrainingRun

# The first step of a network allocates memory, chooses kernels and fills caches.
_WARM_UP = 1


def time_steps(run: TrainingRun, begin: Callable[[], None] | None = None) -> list[float]:
    """Seconds of each step in one epoch of `run`, without the first step where there are several.

    `begin` is called before the first timed step, for example to wait for other processes. Auxiliary models are not
    trained, see `without_auxiliary`.
    """
    clocks: list[float] = []

    @contextmanager
    def turn() -> Iterator[None]:
        if len(clocks) == _WARM_UP and begin is not None:
            begin()
        started = time.perf_counter()
        yield
        if torch.device(run.device).type == "cuda":
            torch.cuda.synchronize(run.device)
        clocks.append(time.perf_counter() - started)

    config = replace(run.config, epochs=1, validate_every=1, eps_ramp=0.0)
    train(replace(run, genome=without_auxiliary(run.genome), config=config, turn=turn))
    steps = clocks[:run.batches]
    return steps[_WARM_UP:] or steps


def without_auxiliary(genome: Genome) -> Genome:
    """The nearest recipe that needs no auxiliary model, at nearly the same cost."""
    if (teacher := LOSSES[genome.loss].teacher) is not None:
        return replace(genome, loss=teacher).canonical()
    return replace(genome, crafting="fgsm").canonical() if CRAFTINGS[genome.crafting].borrows else genome
