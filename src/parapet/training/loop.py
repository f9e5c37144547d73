"""Adversarial training of one candidate: attack each batch, descend on the loss, validate, keep the best epoch."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.noise import derived, image_seeds
from parapet.errors import InputError, ParapetError
from parapet.models.cost import count_flops
from parapet.models.network import Network, build
from parapet.training import adaptation, checkpoint, schedules
from parapet.training.augmentation import augment
from parapet.training.auxiliary_models import AuxiliaryModels, auxiliary_genomes, checkpoint_of
from parapet.training.crafting import Crafting, craft
from parapet.training.learner import Learner
from parapet.training.morel import MorelHead, classifier_layer
from parapet.training.recipe import Recipe
from parapet.training.run import TrainingRun
from parapet.training.validation import feedback, validate

# Validation images that detect a collapse; a gap of 20 points among 128 images is significant.
_WATCHED, _WATCHED_STEPS = 128, 5
_REGULARISER_NOISE = 1


class TrainingFailed(ParapetError):
    """Loss or weights were not finite; the candidate is infeasible for the reason in the text."""


@dataclass(frozen=True)
class Trained:
    """A trained network in eval mode (best epoch by robust validation accuracy) and how it was trained."""

    network: Network
    curves: list[dict[str, Any]]
    best_epoch: int
    seconds: float
    training_flops: int
    collapses: int = 0


def train(run: TrainingRun) -> Trained:
    """Train the network of `run`, after the auxiliary models that it needs.

    The run resumes from the last epoch in its checkpoint. A network that has collapsed (it misleads single-step
    attacks, and several steps break it) is rolled back to its last good epoch and trained against a stronger attack
    from there. Raises TrainingFailed where loss or weights are not finite; InputError where a batch is larger than the
    data, or cannot be shared.
    """
    run.check()
    config, generator = run.config, torch.Generator().manual_seed(run.seed)
    recipe = Recipe.of(run.genome, config)
    learner = _initialised(run, recipe, generator)
    network = learner.network
    state = _resumed(run, learner, generator)
    auxiliary = _trained_beforehand(run, state)
    forward, saved = count_flops(network, network.image_shape), time.monotonic()
    while state.epoch < config.epochs:
        started = time.monotonic()
        now = recipe.adapted(state.defence)
        metrics = train_epoch(run, learner, now, auxiliary, generator, state.epoch)
        if not all(map(math.isfinite, metrics.values())) or not _finite(network):
            best = f"; epoch {state.best_epoch} had been the best" if state.best_epoch else ""
            raise TrainingFailed(f"the loss was not finite in epoch {state.epoch + 1} of {config.epochs} "
                                 f"(learning rate {run.genome.learning_rate:g}){best}")
        state.epoch += 1
        state.flops += now.flops(forward) * run.batches * config.batch_size
        last = state.epoch == config.epochs
        validated = last or state.epoch % config.validate_every == 0
        if now.crafting is not None and (validated or now.crafting.single):
            metrics |= _adapt(run, learner, state, now.crafting, metrics["training_eps"])
        # An epoch that a rollback restored was validated when it was new.
        if validated and not (metrics.get("rolled_back") and state.best_weights):
            metrics |= _keep_best(run, learner, state)
        state.seconds += time.monotonic() - started
        state.curves.append({"epoch": state.epoch, "time": time.time(), **metrics, **now.metrics()})
        if run.progress:
            run.progress(state.epoch, config.epochs, state.curves[-1])
        if run.checkpoint and run.team.is_main and (last or time.monotonic() - saved >= config.checkpoint_seconds):
            checkpoint.save(run.checkpoint, run.key, learner, generator, state)
            saved = time.monotonic()
    if run.checkpoint and run.team.is_main:
        for name in auxiliary_genomes(run.genome):
            checkpoint_of(run.checkpoint, name).unlink(missing_ok=True)
    network.load_state_dict(state.best_weights)
    network._compiled_call_impl = None  # the returned network can be saved, exported and attacked like any other
    return Trained(network.eval(), state.curves, state.best_epoch, state.seconds, state.flops, state.defence.collapses)


def train_epoch(run: TrainingRun, learner: Learner, recipe: Recipe, auxiliary: AuxiliaryModels,
                generator: torch.Generator, epoch: int) -> dict[str, float]:
    """One epoch, the finished ones being `epoch`; the means of the loss and its pieces, and what it trained with."""
    config, device = run.config, run.images.images.device
    network, steps = learner.network.train(), config.epochs * run.batches
    schedule = getattr(schedules, config.schedule)
    totals: dict[str, Tensor] = {}
    rate, eps = run.genome.learning_rate, 0.0
    for step, (images, labels) in enumerate(run.images.shuffled(config.batch_size, generator), epoch * run.batches):
        with run.turn(), _precision(run):
            run.team.barrier()
            rate = schedule(step, steps, run.genome.learning_rate)
            eps = run.threat.eps * recipe.eps_ratio * schedules.ramp(step, steps, config.eps_ramp)
            images, labels, seeds = run.team.share(images, labels, image_seeds(len(images), generator, device))
            images = augment(images, seeds, config.augmentation)
            adversarial = None if recipe.crafting is None else craft(
                network, images, labels, recipe.crafting, eps, run.threat.norm, seeds, static=auxiliary.static,
                generator=generator)
            loss_fn = partial(
                recipe.loss, network, images, labels, adversarial, eps=eps, norm=run.threat.norm,
                seeds=derived(seeds, _REGULARISER_NOISE), morel_head=learner.head, teacher=auxiliary.teacher)
            loss, pieces = learner.descend(loss_fn, rate=rate, gamma=recipe.weight_perturbation,
                                           clip=config.gradient_clip, team=run.team)
            for name, value in {"loss": loss, **pieces}.items():
                totals[name] = totals.get(name, torch.zeros((), device=device)) + value
    run.team.average(totals.values())
    return {**{name: float(total) / run.batches for name, total in totals.items()},
            "learning_rate": rate, "training_eps": eps,
            **({"training_step_size": recipe.crafting.step_size(eps)} if recipe.crafting else {})}


def _initialised(run: TrainingRun, recipe: Recipe, generator: torch.Generator) -> Learner:
    network = build(run.genome, run.images.image_shape, run.classes, generator=generator, mean=run.mean, std=run.std)
    if run.initialise is not None:
        run.initialise(network)
    head = MorelHead(classifier_layer(network).in_features, generator).to(run.device) if recipe.loss.morel else None
    learner = Learner.of(network.to(run.device).to(memory_format=torch.channels_last), head,
                         decay=run.config.weight_average, learning_rate=run.genome.learning_rate,
                         weight_decay=run.genome.weight_decay)
    if run.config.compile:
        if twice := recipe.loss.differentiated_twice:
            raise InputError(f"training.compile is true, and {twice[0]} needs the gradient of a gradient, which "
                             "torch.compile cannot give; set training.compile to false, or the regulariser's weight to "
                             "0.")
        for each in {learner.network, learner.evaluated}:
            each.compile()
    return learner


def _resumed(run: TrainingRun, learner: Learner, generator: torch.Generator) -> checkpoint.Progress:
    state = checkpoint.restore(run.checkpoint, run.key, learner, generator) if run.checkpoint else None
    state = state or checkpoint.Progress()
    if len(set(epochs := run.team.gather(state.epoch))) > 1:
        raise RuntimeError(f"the processes that train together do not see the same checkpoint at {run.checkpoint}: "
                           f"it ends with the epochs {', '.join(map(str, epochs))}.")
    return state


def _trained_beforehand(run: TrainingRun, state: checkpoint.Progress) -> AuxiliaryModels:
    """The auxiliary models; their cost counts once, in the run that has just begun."""
    finished: dict[str, Trained] = {}
    genomes = auxiliary_genomes(run.genome) if state.epoch < run.config.epochs else {}
    for number, (name, genome) in enumerate(genomes.items(), start=1):
        try:
            finished[name] = train(run.auxiliary(name, genome, number))
        except TrainingFailed as error:
            raise TrainingFailed(f"the {name}, which is trained first: {error}") from None
    if state.epoch == 0:
        state.seconds += sum(trained.seconds for trained in finished.values())
        state.flops += sum(trained.training_flops for trained in finished.values())
    return AuxiliaryModels.of({name: trained.network for name, trained in finished.items()})


def _adapt(run: TrainingRun, learner: Learner, state: checkpoint.Progress, crafting: Crafting,
           eps: float) -> dict[str, float]:
    """Test for a collapse; after one, roll back and strengthen the attack, else adapt where the run asks for it."""
    largest = 1.0 if run.threat.norm == "linf" else run.validation.images[0].numel() ** 0.5
    if eps <= 0:
        return {}
    with run.turn():
        seen = run.team.from_main(lambda: feedback(
            learner.network, run.validation, count=_WATCHED, eps=min(eps, largest), norm=run.threat.norm,
            steps=max(_WATCHED_STEPS, run.config.validation_steps)))
    collapsed = seen.collapsed(state.defence)
    if collapsed:
        learner.restore(state.good)
    if collapsed or (seen.misleading and crafting.single):
        state.defence = adaptation.strengthen_attack(state.defence, rolled_back=collapsed)
    elif run.config.adapt:
        state.defence = adaptation.adapt(state.defence, seen)
    if not seen.misleading:
        state.good, state.defence = learner.snapshot(), replace(state.defence, good=seen.several_steps)
    return {"watched_clean_accuracy": seen.clean, "single_step_accuracy": seen.single_step,
            "several_steps_accuracy": seen.several_steps, "rolled_back": float(collapsed)}


def _keep_best(run: TrainingRun, learner: Learner, state: checkpoint.Progress) -> dict[str, float]:
    network = learner.evaluated
    metrics: dict[str, float] = run.team.from_main(lambda: validate(
        network, run.validation, run.threat, steps=run.config.validation_steps, batch_size=run.config.batch_size,
        turn=run.turn))
    if metrics["validation_robust_accuracy"] >= state.best_robust_accuracy:
        state.best_epoch, state.best_robust_accuracy = state.epoch, metrics["validation_robust_accuracy"]
        state.best_weights = {name: value.clone() for name, value in network.state_dict().items()}
    return metrics


def _finite(network: Network) -> bool:
    return bool(torch.stack([parameter.isfinite().all() for parameter in network.parameters()]).all())


def _precision(run: TrainingRun) -> AbstractContextManager[object]:
    """bfloat16 on a GPU unless the configuration asks for float32; float32 on the CPU.

    Without autocast's cache of weights: adversarial weight perturbation moves the weights between two passes, and the
    second pass would read the old ones from the cache.
    """
    return torch.autocast("cuda", torch.bfloat16, enabled=run.config.precision == "auto", cache_enabled=False) \
        if run.images.images.device.type == "cuda" else nullcontext()
