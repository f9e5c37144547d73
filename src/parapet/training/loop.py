"""The training loop of one candidate: craft, descend, validate, keep the best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.balls import ball
from parapet.attacks.inputs import frozen, predict
from parapet.attacks.noise import image_seeds, uniform
from parapet.attacks.objectives import cross_entropy, divergence_from
from parapet.attacks.pgd import ascend, pgd
from parapet.config import ThreatModel, TrainingConfig
from parapet.data.dataset import Images
from parapet.errors import ParapetError
from parapet.genome import Genome
from parapet.models.cost import count_flops
from parapet.models.network import Network, build
from parapet.training import checkpoint, losses, schedules

MOMENTUM = 0.9


class TrainingFailed(ParapetError):
    """The numbers went bad; the candidate is infeasible for the reason in the text."""


@dataclass(frozen=True)
class Trained:
    """A trained network in eval mode (best epoch by robust validation accuracy) and how it came about."""

    network: Network
    curves: list[dict[str, Any]]
    best_epoch: int
    seconds: float
    training_flops: int


def train(genome: Genome, train_images: Images, validation_images: Images, *, classes: int, mean: Tensor, std: Tensor,
          config: TrainingConfig, threat: ThreatModel, seed: int, device: str = "cpu",
          checkpoint_path: Path | None = None,
          progress: Callable[[int, int, dict[str, Any]], None] | None = None,
          turn: Callable[[], AbstractContextManager] = nullcontext) -> Trained:
    """Train one genome.

    `seed` fixes weights, order of images and noise. With `checkpoint_path` the run goes on from the last saved epoch.
    `progress` is told (epoch, epochs, metrics) after each epoch; `turn` is entered for each batch, so that latency
    can be timed in between. Raises TrainingFailed where the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    image_shape = tuple(train_images.images.shape[1:])
    network = build(genome, image_shape, classes, generator=generator, mean=mean, std=std)
    network = network.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), lr=genome.learning_rate, momentum=MOMENTUM, nesterov=True,
                                weight_decay=genome.weight_decay)
    key = f"{genome.digest()}-{seed}-{config}-{threat}"
    state = checkpoint.restore(checkpoint_path, key, network, optimiser, generator) if checkpoint_path \
        else checkpoint.Progress()
    saved = time.monotonic()
    while state.epoch < config.epochs:
        started = time.monotonic()
        metrics = _epoch(network, optimiser, train_images, genome, config, threat, generator, state.epoch, turn)
        if not all(torch.isfinite(torch.tensor(value)) for value in metrics.values()):
            raise TrainingFailed(f"the loss was not finite in epoch {state.epoch + 1} of {config.epochs} "
                                 f"(learning rate {genome.learning_rate:g})")
        state.epoch += 1
        last = state.epoch == config.epochs
        if last or state.epoch % config.validate_every == 0:
            metrics |= _validate(network, validation_images, config, threat, turn)
            if metrics["validation_robust_accuracy"] >= state.best_robust_accuracy:
                state.best_epoch, state.best_robust_accuracy = state.epoch, metrics["validation_robust_accuracy"]
                state.best_weights = {name: value.clone() for name, value in network.state_dict().items()}
        state.seconds += time.monotonic() - started
        state.curves.append({"epoch": state.epoch, "time": time.time(), **metrics})
        if progress:
            progress(state.epoch, config.epochs, metrics)
        if checkpoint_path and (last or time.monotonic() - saved >= config.checkpoint_seconds):
            checkpoint.save(checkpoint_path, key, network, optimiser, generator, state)
            saved = time.monotonic()
    network.load_state_dict(state.best_weights)
    return Trained(network.eval(), state.curves, state.best_epoch, state.seconds,
                   _training_flops(network, genome, len(train_images) * config.epochs))


def _epoch(network: Network, optimiser: torch.optim.SGD, images: Images, genome: Genome, config: TrainingConfig,
           threat: ThreatModel, generator: torch.Generator, epoch: int,
           turn: Callable[[], AbstractContextManager]) -> dict[str, float]:
    network.train()
    batches = max(1, len(images) // config.batch_size)
    steps = config.epochs * batches
    device = images.images.device
    totals: dict[str, Tensor] = {}
    rate, eps = genome.learning_rate, 0.0
    for place, (batch, labels) in enumerate(images.shuffled(config.batch_size, generator)):
        with turn():
            step = epoch * batches + place
            rate = schedules.one_cycle(step, steps, genome.learning_rate)
            eps = threat.eps * genome.eps_ratio * schedules.ramp(step, steps, config.eps_ramp)
            for group in optimiser.param_groups:
                group["lr"] = rate
            adversarial = craft(network, batch, labels, genome, eps, threat.norm, generator)
            loss, pieces = _loss(network, batch, labels, adversarial, genome, config)
            optimiser.zero_grad()
            loss.backward()
            if config.gradient_clip > 0:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimiser.step()
            for name, value in {"loss": loss.detach(), **pieces}.items():
                totals[name] = totals.get(name, torch.zeros((), device=device)) + value
    return {**{name: float(total) / batches for name, total in totals.items()},
            "learning_rate": rate, "training_eps": eps}


def craft(network: Network, images: Tensor, labels: Tensor, genome: Genome, eps: float, norm: str,
          generator: torch.Generator) -> Tensor:
    """The inner maximisation: `genome.steps` steps of size 2.5 eps / steps from a uniform random start.

    Batch norm is in eval mode meanwhile (Pang et al. 2021, "Bag of Tricks for Adversarial Training", section 3.6).
    """
    if genome.loss == "standard":
        return images
    around = ball(images, eps, norm)
    start = around.start(uniform(image_seeds(len(images), generator, images.device), images.shape[1:]))
    with frozen(network):
        if genome.loss == "trades":
            with torch.no_grad():
                objective = divergence_from(network(images).softmax(1))
        else:
            objective = cross_entropy
        return ascend(network, start, labels, around, objective, genome.steps, 2.5 * eps / genome.steps)


def _loss(network: Network, images: Tensor, labels: Tensor, adversarial: Tensor, genome: Genome,
          config: TrainingConfig) -> tuple[Tensor, losses.Pieces]:
    smoothing = config.label_smoothing
    if genome.loss == "trades":
        return losses.trades(network, images, labels, adversarial, beta=genome.trades_beta, smoothing=smoothing)
    if genome.loss == "pgd":
        return losses.pgd_training(network, images, labels, adversarial, clean_share=genome.clean_share,
                                   smoothing=smoothing)
    return losses.standard(network, images, labels, smoothing=smoothing)


def _validate(network: Network, images: Images, config: TrainingConfig, threat: ThreatModel,
              turn: Callable[[], AbstractContextManager]) -> dict[str, float]:
    """Clean accuracy and accuracy under margin-PGD, with the same noise each time, so that epochs compare."""
    generator = torch.Generator().manual_seed(0)
    clean = robust = 0
    with frozen(network):
        for batch, labels in images.batches(config.batch_size):
            with turn():
                clean += int((predict(network, batch) == labels).sum())
                points = pgd(network, batch, labels, eps=threat.eps, norm=threat.norm, steps=config.validation_steps,
                             loss="margin", early_stop=True, generator=generator)
                robust += int((predict(network, points) == labels).sum())
    return {"validation_clean_accuracy": clean / len(images), "validation_robust_accuracy": robust / len(images)}


def _training_flops(network: Network, genome: Genome, images: int) -> int:
    """Counted forward FLOPs times passes: forward 1, gradient of the image 1, gradient of the weights 1 more."""
    forward = count_flops(network, network.image_shape)
    if genome.loss == "standard":
        return 3 * forward * images
    both = genome.loss == "trades" or genome.clean_share > 0
    reference = 1 if genome.loss == "trades" else 0
    return forward * images * (2 * genome.steps + reference + 3 * (2 if both else 1))
