"""Everything that one training run is given: genome, data, settings, place of the checkpoint, callbacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parapet.config import ThreatModel, TrainingConfig
from parapet.data.dataset import Dataset
from parapet.data.images import Images
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.network import Network
from parapet.training.auxiliary_models import checkpoint_of
from parapet.training.team import ALONE, Team
from parapet.versions import TRAINING_VERSION

# Makes a context that is entered for one batch, for example to wait while a latency is measured.
Turn = Callable[[], AbstractContextManager[object]]
# Receives the epoch, the number of epochs and the row of the curves.
Progress = Callable[[int, int, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training run of a genome.

    images, validation: the training images and those that choose the best epoch, on `device`. mean, std: statistics of
    the training images per channel, (C,). seed: of the weights, the order of the images and all noise.
    checkpoint: the file that keeps the state between epochs, and from which the run is resumed; None for no file.
    progress: called after each epoch. turn: entered for each batch. auxiliary_turn: gives the `turn` of an auxiliary
    model from its name. initialise: may load weights into the network before its first step, always the same ones.
    team: the processes that train together; each of them is given the same run, and the main one writes checkpoints.
    """

    genome: Genome
    images: Images
    validation: Images
    classes: int
    mean: Tensor
    std: Tensor
    config: TrainingConfig
    threat: ThreatModel
    seed: int
    device: str = "cpu"
    checkpoint: Path | None = None
    progress: Progress | None = None
    turn: Turn = nullcontext
    auxiliary_turn: Callable[[str], Turn] | None = None
    initialise: Callable[[Network], None] | None = None
    team: Team = ALONE

    @classmethod
    def of(cls, genome: Genome, data: Dataset, *, config: TrainingConfig, device: str = "cpu",
           images: int | None = None, **rest: Any) -> TrainingRun:
        """Train on `images` training images of `data` (default: all) and validate on `config.validation_images`."""
        return cls(genome=genome, images=data.split("train", device=device, limit=images),
                   validation=data.split("validation", device=device, limit=config.validation_images),
                   classes=len(data.classes), mean=torch.tensor(data.mean), std=torch.tensor(data.std), config=config,
                   device=device, **rest)

    @property
    def batches(self) -> int:
        """Batches of an epoch; images that fill no batch are left out."""
        return len(self.images) // self.config.batch_size

    @property
    def key(self) -> str:
        """Names the run in its checkpoint."""
        return f"{self.genome.digest()}-{self.seed}-{self.config}-{self.threat}-{TRAINING_VERSION}-{len(self.images)}"

    def check(self) -> None:
        """InputError for a batch that is larger than the data, or that the processes cannot share equally."""
        self.team.check(self.config.batch_size)
        if self.config.batch_size > len(self.images):
            raise InputError(f"training.batch_size is {self.config.batch_size}, and there are {len(self.images)} "
                             f"training images; choose a batch of at most {len(self.images)}.")

    def auxiliary(self, name: str, genome: Genome, number: int) -> TrainingRun:
        """The run of the auxiliary model `name`, the one of that number from 1 on, with a seed of its own.

        It is validated only after its last epoch: it is trained without attacks, so that robust accuracy would choose
        the epoch that has learnt least.
        """
        return replace(
            self, genome=genome, config=replace(self.config, validate_every=self.config.epochs),
            seed=self.seed + number, checkpoint=self.checkpoint and checkpoint_of(self.checkpoint, name),
            turn=self.turn if self.auxiliary_turn is None else self.auxiliary_turn(name), progress=None,
            auxiliary_turn=None, initialise=None)
