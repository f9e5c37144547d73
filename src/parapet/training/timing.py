"""How long a step of training takes: a few real ones, crafting and descent, by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from parapet.config import TrainingConfig
from parapet.data.images import Images
from parapet.genome import Genome
from parapet.training.loop import train

# The first step of a network allocates, chooses kernels and fills caches.
_WARM_UP = 1


@dataclass(frozen=True)
class StepTimes:
    """Seconds: of each step of training after the first, and of validating once on `images` images."""

    steps: list[float]
    look: float
    images: int


def time_steps(genome: Genome, training: Images, validation: Images, *, steps: int, config: TrainingConfig, device: str,
               begin: Callable[[], None] | None = None, **setting: Any) -> StepTimes:
    """Train `genome` for one warm-up step and `steps` more, look once, and say how long each took.

    `training` must hold a batch more than there are `steps`. `begin` is called before the first timed step, for example
    to wait for others. `setting` is what `train` is given of data and threat. Networks that a recipe learns from are
    left out: what they cost is known by their own genomes.
    """
    count = (steps + _WARM_UP) * config.batch_size
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

    train(alone(genome), training.part(count), validation, config=replace(config, epochs=1, validate_every=1,
                                                                          eps_ramp=0.0),
          device=device, seed=0, turn=turn, **setting)
    last = steps + _WARM_UP
    return StepTimes(clocks[_WARM_UP:last], sum(clocks[last:]), len(validation))


def alone(genome: Genome) -> Genome:
    """The nearest recipe that needs no other network, at the same cost but for a teacher's forward pass."""
    if genome.loss == "distillation":
        return replace(genome, loss="softened").canonical()
    return replace(genome, crafting="fgsm").canonical() if genome.crafting == "ensemble" else genome
