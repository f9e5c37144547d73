"""Auto-PGD: projected ascent with momentum and a step size that adapts to each image (Croce and Hein 2020).

Croce, Hein: "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
algorithm 1; targeted as in their section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.balls import L2Ball, LinfBall, ball
from parapet.attacks.batching import due, shrink
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, ask, check, frozen, in_halves
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.attacks.objectives import OBJECTIVES, Objective, margin, targeted_dlr
from parapet.attacks.restarts import BestOfRuns, standing
from parapet.errors import InputError

# The weight of the new direction against the momentum, and the first step in radii (section 3.1).
_NEW_DIRECTION, _FIRST_STEP = 0.75, 2.0
# Checkpoints of the step size: the first period, its decrease, and the shortest one, as shares of all steps.
_PERIOD, _PERIOD_LOSS, _SHORTEST_PERIOD = 0.22, 0.03, 0.06


def apgd(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf", steps: int = 100,
         restarts: int = 1, loss: str | Objective = "ce", targets: int | None = None, rho: float = 0.75,
         early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """Auto-PGD from `restarts` random starts.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `loss` is
    "ce", "margin", "dlr" or a function of (logits, labels). With `targets` the loss is the targeted DLR, towards each
    of the `targets` largest other logits in turn. `rho` is the share of steps that must have raised the loss, else
    the step size is halved. With `early_stop` a broken image leaves the batch. Returns for each image a version that
    the model misclassifies if one was found, else the one of the largest loss. Raises InputError for options out of
    range.
    """
    check(images, labels, eps=eps, norm=norm)
    if steps < 1 or restarts < 1 or (targets is not None and targets < 1):
        raise InputError(f"apgd got steps={steps}, restarts={restarts}, targets={targets}; each must be at least 1.")
    if isinstance(loss, str) and loss not in OBJECTIVES:
        raise InputError(f"loss is {loss!r}; allowed: {', '.join(OBJECTIVES)}, or a function of (logits, labels).")
    if not 0 < rho < 1:
        raise InputError(f"rho is {rho:g}; it must lie in (0, 1).")
    objective = OBJECTIVES[loss] if isinstance(loss, str) else loss
    around, seeds = ball(images, eps, norm), image_seeds(len(images), generator, images.device)
    best = BestOfRuns(images)
    with frozen(model):
        ranked = None if targets is None else other_classes(model, images, labels, targets)
        for runs, rows in best.batches(restarts * (1 if ranked is None else ranked.shape[1]),
                                      apart=ranked is None and not isinstance(loss, str)):
            turns = torch.tensor(runs, device=rows.device).repeat_interleave(len(best.rows))
            noise = torch.cat([uniform(derived(seeds[best.rows], run), images.shape[1:]) for run in runs])

            def climb(rows: Tensor, turns: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                goal, local = None if ranked is None else ranked[rows, turns // restarts], around.select(rows)
                return _climb(model, local.start(noise), labels[rows], local, objective, goal, steps, rho,
                              rows if early_stop else None)
            best.keep(*in_halves(climb, rows, turns, noise))
    return best.images


def other_classes(model: Model, images: Tensor, labels: Tensor, count: int) -> Tensor:
    """The `count` classes (or all) with the largest logits apart from the label; (N, count)."""
    with torch.no_grad():
        logits = ask(model, images)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


@dataclass
class _State:
    """The state of Auto-PGD for each image of the batch; the first dimension of every tensor is the image."""

    labels: Tensor
    owners: Tensor | None   # the image of each point; a broken image leaves with all its points
    targets: Tensor | None
    points: Tensor          # where the ascent is
    previous: Tensor        # where it was one step before
    gradient: Tensor        # of the objective at `points`
    value: Tensor           # the objective there
    best: Tensor            # the point of the largest objective so far
    best_gradient: Tensor
    best_value: Tensor
    fooling: Tensor         # the last point that the model got wrong
    broken: Tensor          # whether there was one
    size: Tensor            # the step size, (n, 1, 1, 1)
    halved: Tensor          # whether the last checkpoint halved the step size
    checked_value: Tensor   # best_value at that checkpoint
    rises: Tensor           # how many steps since then raised the objective

    def select(self, index: Tensor) -> _State:
        parts = (getattr(self, field.name) for field in fields(self))
        chosen: list[Any] = [None if part is None else part[index] for part in parts]
        return _State(*chosen)

    def outcome(self) -> tuple[Tensor, Tensor, Tensor]:
        """(points to return, their objective, whether the model misclassifies them)."""
        return torch.where(_wide(self.broken), self.fooling, self.best), self.best_value.float(), self.broken


def _climb(model: Model, start: Tensor, labels: Tensor, around: LinfBall | L2Ball, objective: Objective,
           targets: Tensor | None, steps: int, rho: float, owners: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """One run over the batch: (end points, their objective, whether the model misclassifies them).

    With `owners`, the image of each point (n,), a broken image leaves the batch with all its points.
    """
    logits, value, gradient = input_gradient(model, start, labels, _towards(targets, objective))
    state = _State(
        labels=labels, owners=owners, targets=targets, points=start, previous=start, gradient=gradient, value=value,
        best=start, best_gradient=gradient, best_value=value, fooling=start, broken=margin(logits, labels) > 0,
        size=torch.full((len(start), 1, 1, 1), _FIRST_STEP * around.eps, device=start.device, dtype=start.dtype),
        halved=torch.ones_like(labels, dtype=torch.bool), checked_value=value, rises=torch.zeros_like(value))
    ends, ends_value, ends_broken = state.outcome()
    outcome = ends.clone(), ends_value.clone(), ends_broken.clone()
    rows = torch.arange(len(start), device=start.device)
    at, since = checkpoints(steps), 0
    for step in range(steps):
        if state.owners is not None and due(step) and (
                index := shrink(standing(state.broken, state.owners))) is not None:
            for whole, part in zip(outcome, state.outcome()):
                whole[rows] = part
            rows, state, around = rows[index], state.select(index), around.select(index)
            if len(rows) == 0:
                return outcome
        points = _advance(state, around, first=step == 0)
        logits, value, gradient = input_gradient(model, points, state.labels, _towards(state.targets, objective))
        fooled, better = margin(logits, state.labels) > 0, value > state.best_value
        keep = fooled if state.owners is None else fooled & ~state.broken
        state.fooling = torch.where(_wide(keep), points, state.fooling)
        state.broken = state.broken | fooled
        state.best = torch.where(_wide(better), points, state.best)
        state.best_gradient = torch.where(_wide(better), gradient, state.best_gradient)
        state.best_value = torch.maximum(value, state.best_value)
        state.rises = state.rises + (value > state.value)
        state.previous, state.points, state.gradient, state.value = state.points, points, gradient, value
        since += 1
        if step in at:
            _adapt(state, since, rho)
            since = 0
    for whole, part in zip(outcome, state.outcome()):
        whole[rows] = part
    return outcome


def _towards(targets: Tensor | None, objective: Objective) -> Objective:
    return objective if targets is None else targeted_dlr(targets)


def _advance(state: _State, around: LinfBall | L2Ball, *, first: bool) -> Tensor:
    """The next point: a gradient step, projected, then mixed with the last move and projected again (equation 3)."""
    stepped = around.step(state.points, state.gradient, state.size)
    if first:
        return stepped
    mixed = stepped.mul_(_NEW_DIRECTION).add_(state.points, alpha=2 * (1 - _NEW_DIRECTION))
    return around.project(mixed.sub_(state.previous, alpha=1 - _NEW_DIRECTION))


def _adapt(state: _State, since: int, rho: float) -> None:
    """Where too few steps raised the loss, halve the step size and return to the best point (conditions 1 and 2)."""
    stuck = ~state.halved & (state.checked_value >= state.best_value)
    halve = (state.rises <= rho * since) | stuck
    state.size = torch.where(_wide(halve), state.size / 2, state.size)
    state.points = torch.where(_wide(halve), state.best, state.points)
    state.gradient = torch.where(_wide(halve), state.best_gradient, state.gradient)
    state.halved, state.checked_value = halve, state.best_value
    state.rises = torch.zeros_like(state.rises)


def checkpoints(steps: int) -> set[int]:
    """The steps after which the step size is adapted (checkpoints of section 3.2), with the authors' rounding."""
    period, loss, shortest = (max(int(share * steps), 1) for share in (_PERIOD, _PERIOD_LOSS, _SHORTEST_PERIOD))
    found, step = set(), period - 1
    while step < steps:
        found.add(step)
        period = max(period - loss, shortest)
        step += period
    return found


def _wide(flags: Tensor) -> Tensor:
    return flags.reshape(-1, 1, 1, 1)
