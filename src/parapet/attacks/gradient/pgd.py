"""Projected gradient descent (Madry, Makelov, Schmidt, Tsipras, Vladu 2018), with restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import L2Ball, LinfBall, ball
from parapet.attacks.batching import due, shrink
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, ask, check, frozen, in_halves
from parapet.attacks.noise import Generator, image_seeds, uniform
from parapet.attacks.objectives import OBJECTIVES, Objective, margin
from parapet.attacks.restarts import BestOfRuns, standing
from parapet.errors import InputError


def pgd(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf", steps: int = 40,
        step_size: float | None = None, restarts: int = 1, loss: str | Objective = "ce", random_start: bool = True,
        early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """Steepest ascent of `loss` inside the ball, from a uniform random start, `restarts` times.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2.
    `step_size` is in pixels, by default 2.5 eps / steps, as Madry et al. do; `loss` is "ce", "margin" or a function
    of (logits, labels). With `early_stop` a broken image leaves the batch and keeps its adversarial version.
    Returns for each image a version that the model misclassifies if any restart ended in one, else the end point of
    the largest loss. Raises InputError for options out of range.
    """
    check(images, labels, eps=eps, norm=norm)
    if steps < 1 or restarts < 1:
        raise InputError(f"pgd got steps={steps} and restarts={restarts}; both must be at least 1.")
    if isinstance(loss, str) and loss not in OBJECTIVES:
        raise InputError(f"loss is {loss!r}; allowed: {', '.join(OBJECTIVES)}, or a function of (logits, labels).")
    if step_size is not None and not 0 < step_size < float("inf"):
        raise InputError(f"step_size is {step_size}; it must be above 0, in pixels.")
    objective = OBJECTIVES[loss] if isinstance(loss, str) else loss
    size = 2.5 * eps / steps if step_size is None else step_size
    around, seeds = ball(images, eps, norm), image_seeds(len(images), generator, images.device)
    best = BestOfRuns(images)
    with frozen(model):
        for runs, rows in best.batches(restarts, apart=not isinstance(loss, str)):
            noise = torch.cat([uniform(seeds[best.rows], images.shape[1:], run) for run in runs])

            def climb(rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                local = around.select(rows)
                start = local.start(noise) if random_start else images[rows]
                return _ascend(model, start, labels[rows], local, objective, steps, size, rows if early_stop else None)
            best.keep(*in_halves(climb, rows, noise))
    return best.images


def ascend(model: Model, points: Tensor, labels: Tensor, around: LinfBall | L2Ball, objective: Objective,
           steps: int, size: float) -> Tensor:
    """`steps` projected gradient steps from `points`, nothing else; the inner maximisation of adversarial training."""
    for _ in range(steps):
        _, _, gradient = input_gradient(model, points, labels, objective)
        points = around.step(points, gradient, size)
    return points


def _ascend(model: Model, points: Tensor, labels: Tensor, around: LinfBall | L2Ball, objective: Objective,
            steps: int, size: float, owners: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(end points, their objective, whether the model misclassifies them), over the whole batch.

    With `owners`, the image of each point (n,), a broken image leaves the batch with all its points.
    """
    ends, values = points.clone(), torch.full(labels.shape, -torch.inf, device=points.device)
    fooled = torch.zeros_like(labels, dtype=torch.bool)
    rows, stands, fooling = torch.arange(len(points), device=points.device), ~fooled, points
    for step in range(steps):
        logits, _, gradient = input_gradient(model, points, labels, objective)
        if owners is not None:
            fresh = (margin(logits, labels) > 0) & stands
            fooling, stands = torch.where(fresh.reshape(-1, 1, 1, 1), points, fooling), stands & ~fresh
            if due(step) and (index := shrink(standing(~stands, owners))) is not None:
                ends[rows], fooled[rows] = fooling, ~stands
                rows, points, labels, gradient = rows[index], points[index], labels[index], gradient[index]
                fooling, stands, owners, around = fooling[index], stands[index], owners[index], around.select(index)
                if len(rows) == 0:
                    return ends, values, fooled
        points = around.step(points, gradient, size)
    with torch.no_grad():
        logits = ask(model, points)
    ends[rows] = torch.where(stands.reshape(-1, 1, 1, 1), points, fooling)
    values[rows] = objective(logits, labels).to(values.dtype)
    fooled[rows] = ~stands | (margin(logits, labels) > 0)
    return ends, values, fooled
