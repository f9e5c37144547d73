"""The training loop of one candidate: craft, descend, look, adapt, keep the best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.noise import derived, image_seeds
from parapet.config import ThreatModel, TrainingConfig
from parapet.data.images import Images
from parapet.errors import InputError, ParapetError
from parapet.genome import Genome
from parapet.models.cost import count_flops
from parapet.models.network import Network, build
from parapet.training import adaptation, checkpoint, schedules
from parapet.training.augmentation import augment
from parapet.training.auxiliary_models import AuxiliaryModels, checkpoint_of, needed
from parapet.training.crafting import Crafting, craft
from parapet.training.learner import Learner
from parapet.training.losses import Pieces
from parapet.training.morel import MorelHead, classifier_layer
from parapet.training.recipe import Recipe
from parapet.training.team import ALONE, Team
from parapet.training.validation import feedback, validate
from parapet.training.weight_perturbation import perturbed
from parapet.versions import TRAINING_VERSION

Turn = Callable[[], AbstractContextManager[object]]
# Validation images that tell a collapse; a gap of 20 points among 128 is no accident.
_WATCHED, _WATCHED_STEPS = 128, 5
_REGULARISER_NOISE = 1
_ALONE = AuxiliaryModels()


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
    collapses: int = 0


def train(genome: Genome, train_images: Images, validation_images: Images, *, classes: int, mean: Tensor, std: Tensor,
          config: TrainingConfig, threat: ThreatModel, seed: int, device: str = "cpu",
          checkpoint_path: Path | None = None,
          progress: Callable[[int, int, dict[str, Any]], None] | None = None,
          turn: Turn = nullcontext, beforehand: Callable[[str], Turn] | None = None,
          begin: Callable[[Network], None] | None = None, team: Team = ALONE) -> Trained:
    """Train one genome, and before it the networks that it learns from.

    `seed` fixes weights, order of images and noise. With `checkpoint_path` the run goes on from the last saved epoch.
    `progress` is told (epoch, epochs, metrics) after each epoch; `turn` is entered for each batch, so that latency
    can be timed in between, or, where a network called `name` is trained first, `beforehand(name)`. `begin` may put
    weights into the network before its first step, always the same ones. A network that has learnt to mislead single
    steps is rolled back to its last good epoch and attacked harder from there. In a `team` every process calls this
    with the same arguments, and the first one writes the checkpoints that all of them read. Raises TrainingFailed
    where loss or weights are not finite; InputError where a batch is larger than the data, or not to be shared.
    """
    team.check(config.batch_size)
    if config.batch_size > len(train_images):
        raise InputError(f"training.batch_size is {config.batch_size}, and there are {len(train_images)} training "
                         f"images; choose a batch of at most {len(train_images)}.")
    generator = torch.Generator().manual_seed(seed)
    network = build(genome, train_images.image_shape, classes, generator=generator, mean=mean, std=std)
    if begin is not None:
        begin(network)
    recipe = Recipe.of(genome, config)
    head = MorelHead(classifier_layer(network).in_features, generator).to(device) if recipe.objective.morel else None
    learner = Learner.of(network.to(device).to(memory_format=torch.channels_last), head, decay=config.weight_average,
                         learning_rate=genome.learning_rate, weight_decay=genome.weight_decay)
    if config.compile:
        _compile(network, recipe)
    key = f"{genome.digest()}-{seed}-{config}-{threat}-{TRAINING_VERSION}-{len(train_images)}"
    state = checkpoint.restore(checkpoint_path, key, learner, generator) if checkpoint_path else None
    state = state or checkpoint.Progress()
    if len(set(epochs := team.everyone(state.epoch))) > 1:
        raise RuntimeError(f"the processes that train together do not see the same checkpoint at {checkpoint_path}: "
                           f"it ends with the epochs {', '.join(map(str, epochs))}.")
    auxiliary = _ALONE
    if state.epoch < config.epochs:
        finished = {}
        for place, (name, other) in enumerate(needed(genome).items(), start=1):
            try:
                # Looked at once, at the end: no attack was trained against, so robust accuracy would choose the network
                # that has learnt least.
                finished[name] = train(
                    other, train_images, validation_images, classes=classes, mean=mean, std=std,
                    config=replace(config, validate_every=config.epochs), threat=threat, seed=seed + place,
                    device=device, turn=turn if beforehand is None else beforehand(name),
                    checkpoint_path=checkpoint_of(checkpoint_path, name) if checkpoint_path else None, team=team)
            except TrainingFailed as error:
                raise TrainingFailed(f"the {name}, which is trained first: {error}") from None
        auxiliary = AuxiliaryModels.of({name: trained.network for name, trained in finished.items()})
        if state.epoch == 0:
            state.seconds += sum(trained.seconds for trained in finished.values())
            state.flops += sum(trained.training_flops for trained in finished.values())
    forward, saved = count_flops(network, network.image_shape), time.monotonic()
    while state.epoch < config.epochs:
        started = time.monotonic()
        now = recipe.with_defence(state.defence)
        metrics = _epoch(learner, train_images, now, genome.learning_rate, config, threat, generator, state.epoch, turn,
                         auxiliary, team)
        if not all(torch.isfinite(torch.tensor(value)) for value in metrics.values()) or not _finite(network):
            best = f"; epoch {state.best_epoch} had been the best" if state.best_epoch else ""
            raise TrainingFailed(f"the loss was not finite in epoch {state.epoch + 1} of {config.epochs} "
                                 f"(learning rate {genome.learning_rate:g}){best}")
        state.epoch += 1
        state.flops += now.flops(forward) * (len(train_images) // config.batch_size * config.batch_size)
        last = state.epoch == config.epochs
        look = last or state.epoch % config.validate_every == 0
        if now.crafting is not None and (look or now.crafting.single):
            metrics |= _watch(learner, state, validation_images, now.crafting, config, metrics["training_eps"],
                              threat.norm, turn, team)
        # What a rollback put back has been looked at when it was new.
        if look and not (metrics.get("rolled_back") and state.best_weights):
            metrics |= _keep_best(learner, state, validation_images, config, threat, turn, team)
        state.seconds += time.monotonic() - started
        state.curves.append({"epoch": state.epoch, "time": time.time(), **metrics, **now.used()})
        if progress:
            progress(state.epoch, config.epochs, state.curves[-1])
        if checkpoint_path and team.is_main and (last or time.monotonic() - saved >= config.checkpoint_seconds):
            checkpoint.save(checkpoint_path, key, learner, generator, state)
            saved = time.monotonic()
    if checkpoint_path and team.is_main:
        for name in needed(genome):
            checkpoint_of(checkpoint_path, name).unlink(missing_ok=True)
    network.load_state_dict(state.best_weights)
    network._compiled_call_impl = None  # what is handed back can be saved, exported and attacked like any other
    return Trained(network.eval(), state.curves, state.best_epoch, state.seconds, state.flops, state.defence.collapses)


def _compile(network: Network, recipe: Recipe) -> None:
    """Compile the network's passes, in place; its names and weights stay what they are."""
    if twice := recipe.objective.differentiated_twice:
        raise InputError(f"training.compile is true, and {twice[0]} needs the gradient of a gradient, which "
                         "torch.compile cannot give; set training.compile to false, or the regulariser's weight to 0.")
    network.compile()


def _epoch(learner: Learner, images: Images, recipe: Recipe, peak: float, config: TrainingConfig, threat: ThreatModel,
           generator: torch.Generator, epoch: int, turn: Turn,
           auxiliary: AuxiliaryModels = _ALONE, team: Team = ALONE) -> dict[str, float]:
    network, optimiser = learner.network.train(), learner.optimiser
    batches = len(images) // config.batch_size
    steps, device = config.epochs * batches, images.images.device
    totals: dict[str, Tensor] = {}
    rate, eps = peak, 0.0
    for place, (batch, labels) in enumerate(images.shuffled(config.batch_size, generator)):
        with turn(), _precision(config, device):
            team.barrier()
            step = epoch * batches + place
            rate = schedules.SCHEDULES[config.schedule](step, steps, peak)
            eps = threat.eps * recipe.eps_ratio * schedules.ramp(step, steps, config.eps_ramp)
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch, labels, seeds = team.share(batch, labels, image_seeds(len(batch), generator, device))
            batch = augment(batch, seeds, config.augmentation)
            adversarial = None if recipe.crafting is None else craft(
                network, batch, labels, recipe.crafting, eps, threat.norm, seeds, static=auxiliary.static,
                generator=generator)
            loss, pieces = _descend(learner, recipe, batch, labels, adversarial, eps, threat.norm, seeds, config,
                                    auxiliary.teacher, team)
            learner.average.update(network)
            for name, value in {"loss": loss, **pieces}.items():
                totals[name] = totals.get(name, torch.zeros((), device=device)) + value
    team.average(totals.values())
    return {**{name: float(total) / batches for name, total in totals.items()},
            "learning_rate": rate, "training_eps": eps,
            **({"training_step_size": recipe.crafting.step_size(eps)} if recipe.crafting else {})}


def _descend(learner: Learner, recipe: Recipe, images: Tensor, labels: Tensor, adversarial: Tensor | None, eps: float,
             norm: str, seeds: Tensor, config: TrainingConfig, teacher: nn.Module | None,
             team: Team) -> tuple[Tensor, Pieces]:
    """One step of the optimiser; (loss, pieces), detached."""
    network = learner.network

    def objective() -> tuple[Tensor, Pieces]:
        return recipe.objective(network, images, labels, adversarial, eps=eps, norm=norm,
                                seeds=derived(seeds, _REGULARISER_NOISE), morel_head=learner.head, teacher=teacher)
    gamma = recipe.weight_perturbation
    with perturbed(network, lambda: objective()[0], gamma, average=team.average) if gamma > 0 else nullcontext():
        loss, pieces = objective()
        learner.optimiser.zero_grad()
        loss.backward()
    team.average_step(learner.parameters, network)
    if config.gradient_clip > 0:
        nn.utils.clip_grad_norm_(learner.parameters, config.gradient_clip)
    learner.optimiser.step()
    return loss.detach(), pieces


def _watch(learner: Learner, state: checkpoint.Progress, images: Images, crafting: Crafting, config: TrainingConfig,
           eps: float, norm: str, turn: Turn, team: Team) -> dict[str, float]:
    """See whether the network misleads single steps; roll back and attack harder if it began to, else adapt."""
    largest = 1.0 if norm == "linf" else images.images[0].numel() ** 0.5
    if eps <= 0:
        return {}
    with turn():
        seen = team.decided(lambda: feedback(
            learner.network, images, count=_WATCHED, eps=min(eps, largest), norm=norm,
            steps=max(_WATCHED_STEPS, config.validation_steps)))
    collapsed = seen.collapsed(state.defence)
    if collapsed:
        learner.restore(state.good)
    if collapsed or (seen.misleading and crafting.single):
        state.defence = adaptation.attack_harder(state.defence, rolled_back=collapsed)
    elif config.adapt:
        state.defence = adaptation.adapt(state.defence, seen)
    if not seen.misleading:
        state.good, state.defence = learner.snapshot(), replace(state.defence, good=seen.several_steps)
    return {"watched_clean_accuracy": seen.clean, "single_step_accuracy": seen.single_step,
            "several_steps_accuracy": seen.several_steps, "rolled_back": float(collapsed)}


def _finite(network: Network) -> bool:
    return bool(torch.stack([parameter.isfinite().all() for parameter in network.parameters()]).all())


def _keep_best(learner: Learner, state: checkpoint.Progress, images: Images, config: TrainingConfig,
               threat: ThreatModel, turn: Turn, team: Team) -> dict[str, float]:
    network = learner.network
    with learner.average.in_place_of(network):
        metrics: dict[str, float] = team.decided(
            lambda: validate(network, images, threat, steps=config.validation_steps, batch_size=config.batch_size,
                             turn=turn))
        if metrics["validation_robust_accuracy"] >= state.best_robust_accuracy:
            state.best_epoch, state.best_robust_accuracy = state.epoch, metrics["validation_robust_accuracy"]
            state.best_weights = {name: value.clone() for name, value in network.state_dict().items()}
    return metrics


def _precision(config: TrainingConfig, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where the device is a card and nobody asked for float32; float32 on the CPU.

    Without autocast's cache of weights: it would hide from the second pass that adversarial weight perturbation has
    moved them.
    """
    return torch.autocast("cuda", torch.bfloat16, enabled=config.precision == "auto", cache_enabled=False) \
        if device.type == "cuda" else nullcontext()
