"""How long a step of training takes: a few real ones, crafting and descent, by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from parapet.catalogue.crafting import CRAFTINGS
from parapet.catalogue.losses import LOSSES
from parapet.config import TrainingConfig
from parapet.data.images import Images
from parapet.genome import Genome
from parapet.training.loop import train

# The first step of a network allocates, chooses kernels and fills caches.
_WARM_UP = 1


def time_steps(genome: Genome, training: Images, validation: Images, *, config: TrainingConfig, device: str,
               begin: Callable[[], None] | None = None, **setting: Any) -> list[float]:
    """Seconds of each step in one epoch of `genome` over `training`, without the first of several.

    `begin` is called before the first timed step, for example to wait for others. `setting` is what `train` is told of
    data and threat. Networks that a recipe learns from are left out, see `alone`.
    """
    clocks: list[float] = []

    @contextmanager
    def turn() -> Iterator[None]:
        if len(clocks) == _WARM_UP and begin is not None:
            begin()
        started = time.perf_counter()
        yield
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        clocks.append(time.perf_counter() - started)

    config = replace(config, epochs=1, validate_every=1, eps_ramp=0.0)
    train(alone(genome), training, validation, config=config, device=device, seed=0, turn=turn, **setting)
    steps = clocks[:len(training) // config.batch_size]
    return steps[_WARM_UP:] or steps


def alone(genome: Genome) -> Genome:
    """The nearest recipe that needs no other network, at nearly the same cost."""
    if (teacher := LOSSES[genome.loss].teacher) is not None:
        return replace(genome, loss=teacher).canonical()
    return replace(genome, crafting="fgsm").canonical() if CRAFTINGS[genome.crafting].borrows else genome
