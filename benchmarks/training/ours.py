"""Our training steps: an epoch of the training loop itself, on the batches of a contest."""

from __future__ import annotations

from collections.abc import Callable

import torch

from parapet.config import ThreatModel, TrainingConfig
from parapet.data.images import Images
from parapet.genome import Genome
from parapet.models.network import Network
from parapet.training.auxiliary_models import AuxiliaryModels
from parapet.training.learner import Learner
from parapet.training.loop import train_epoch
from parapet.training.recipe import Recipe
from parapet.training.run import TrainingRun


def ours(network: Network, images: Images, genome: Genome, batch_size: int, threat: ThreatModel, *,
         generator: torch.Generator | None = None) -> Callable[[], object]:
    """What `parapet.training.loop.train` does in an epoch before it validates, at the full radius and a constant
    learning rate: shuffling, seeds, crafting, objective, clipping, optimiser, precision and layout included."""
    config = TrainingConfig(epochs=1, batch_size=batch_size, eps_ramp=0.0, schedule="constant")
    generator = generator or torch.Generator().manual_seed(0)
    network = network.to(images.images.device, memory_format=torch.channels_last)
    run = TrainingRun(genome=genome, images=images, validation=images, classes=network.classes,
                      mean=network.normalise.mean, std=network.normalise.std, config=config, threat=threat, seed=0)
    learner = Learner.of(network, None, decay=config.weight_average, learning_rate=genome.learning_rate,
                         weight_decay=genome.weight_decay)
    return lambda: train_epoch(run, learner, Recipe.of(genome, config), AuxiliaryModels(), generator, 0)
