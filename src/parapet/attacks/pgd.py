"""Projected gradient descent (Madry, Makelov, Schmidt, Tsipras, Vladu 2018), with restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import L2Ball, LinfBall, ball
from parapet.attacks.batching import shrink
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.noise import Generator, image_seeds, uniform
from parapet.attacks.objectives import OBJECTIVES, Objective, margin
from parapet.errors import InputError


def pgd(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf", steps: int = 40,
        step_size: float | None = None, restarts: int = 1, loss: str | Objective = "ce", random_start: bool = True,
        early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """Steepest ascent of `loss` inside the ball, from a uniform random start, `restarts` times.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2.
    `step_size` is in pixels, by default 2.5 eps / steps, as Madry et al. do; `loss` is "ce", "margin" or a function
    of (logits, labels). With `early_stop` an image that is broken leaves the batch and keeps the broken version.
    Returns, for each image, a version that the model gets wrong where any restart ended in one, else the end
    point of the largest loss.
    """
    check(images, labels, eps=eps, norm=norm)
    if steps < 1 or restarts < 1:
        raise InputError(f"pgd got steps={steps} and restarts={restarts}; both must be at least 1.")
    if isinstance(loss, str) and loss not in OBJECTIVES:
        raise InputError(f"loss is {loss!r}; allowed: {', '.join(OBJECTIVES)}, or a function of (logits, labels).")
    objective = OBJECTIVES[loss] if isinstance(loss, str) else loss
    size = 2.5 * eps / steps if step_size is None else step_size
    around = ball(images, eps, norm)
    seeds = image_seeds(len(images), generator, images.device)
    best, best_value = images.clone(), torch.full(labels.shape, -torch.inf, device=images.device)
    rows = torch.arange(len(images), device=images.device)
    with frozen(model):
        for restart in range(restarts):
            local = around.select(rows)
            points = local.start(uniform(seeds[rows], images.shape[1:], restart)) if random_start else images[rows]
            ends, values, broken = _ascend(model, points, labels[rows], local, objective, steps, size, early_stop)
            # A broken image outranks every unbroken one; among equals the larger loss is kept.
            values = torch.where(broken, torch.inf, values.float())
            better = values > best_value[rows]
            best[rows[better]] = ends[better]
            best_value[rows[better]] = values[better]
            if (index := shrink(best_value[rows] < torch.inf)) is not None:
                rows = rows[index]
            if len(rows) == 0:
                break
    return best


def ascend(model: Model, points: Tensor, labels: Tensor, around: LinfBall | L2Ball, objective: Objective,
           steps: int, size: float) -> Tensor:
    """The bare loop: `steps` projected steps from `points`; the inner maximisation of adversarial training."""
    for _ in range(steps):
        _, _, gradient = input_gradient(model, points, labels, objective)
        points = around.step(points, gradient, size)
    return points


def _ascend(model: Model, points: Tensor, labels: Tensor, around: LinfBall | L2Ball, objective: Objective,
            steps: int, size: float, early_stop: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(end points, their objective, whether the model gets them wrong), all over the batch."""
    ends = points.clone()
    values = torch.full(labels.shape, -torch.inf, device=points.device)
    broken = torch.zeros_like(labels, dtype=torch.bool)
    rows = torch.arange(len(points), device=points.device)
    for _ in range(steps):
        logits, _, gradient = input_gradient(model, points, labels, objective)
        if early_stop:
            fresh = (margin(logits, labels) > 0) & ~broken[rows]
            ends[rows[fresh]], broken[rows[fresh]] = points[fresh], True
            if (index := shrink(~broken[rows])) is not None:
                rows, points, labels, gradient = rows[index], points[index], labels[index], gradient[index]
                around = around.select(index)
            if len(rows) == 0:
                return ends, values, broken
        points = around.step(points, gradient, size)
    with torch.no_grad():
        logits = model(points)
    last = ~broken[rows]
    ends[rows[last]] = points[last]
    values[rows[last]] = objective(logits, labels)[last].to(values.dtype)
    broken[rows[last]] = (margin(logits, labels) > 0)[last]
    return ends, values, broken
