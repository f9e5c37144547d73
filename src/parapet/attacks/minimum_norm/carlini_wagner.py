"""Carlini and Wagner's L2 attack: the smallest change that wins by a margin (2017).

Carlini, Wagner: "Towards Evaluating the Robustness of Neural Networks", section VI-A: pixels as tanh of free
variables, Adam on squared distance plus constant times hinge, and a binary search for the constant.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.batching import due, shrink
from parapet.attacks.gradients import slope
from parapet.attacks.inputs import Model, ask, check, frozen
from parapet.attacks.minimum_norm.boundary import drop_perpendicular, refine
from parapet.attacks.noise import Generator
from parapet.attacks.objectives import margin, precise
from parapet.errors import InputError

# Adam as in Kingma and Ba 2015; not torch's, because its state has to shrink with the batch.
_BETA1, _BETA2, _ADAM_EPSILON = 0.9, 0.999, 1e-8
# Pixels of exactly 0 or 1 have no finite arctanh.
_INSIDE = 1 - 1e-6
# The loss of an image is compared so many times during a run; its run ends when the loss twice in a row has fallen by
# less than 0.01 % (the authors end the run of the whole batch at the first time; the loss of one image is less steady).
_LOOKS, _PROGRESS = 10, 0.9999
_UNBOUNDED = 1e10
# The range of the logits of the networks in the paper, for which its constants are meant.
_SPREAD = 10.0


def carlini_wagner(model: Model, images: Tensor, labels: Tensor, *, norm: str = "l2", steps: int = 1000,
                   searches: int = 9, step_size: float = 0.01, confidence: float = 0.0, constant: float = 1e-3,
                   generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their L2 distances.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); `norm` must be "l2". There are `searches` runs of at most
    `steps` Adam steps of `step_size`. The constant begins at `constant`, grows tenfold for an image until it breaks,
    and is bisected afterwards; it is scaled with the range of the image's logits, so that the paper's values apply.
    `confidence` is the margin in logits by which an image must be misclassified. Returns (images of the same shape in
    [0, 1], distances (N,)): 0 for images that are misclassified already, infinite where nothing was found.
    Deterministic; `generator` is not used. Raises InputError for another norm or options out of range.
    """
    check(images, labels, norm=norm)
    if norm != "l2":
        raise InputError("carlini_wagner minimises L2 distances alone; use norm=\"l2\", or fab for L-inf.")
    if steps < 1 or searches < 1 or not step_size > 0 or not constant > 0 or not confidence >= 0:
        raise InputError(f"carlini_wagner got steps={steps}, searches={searches}, step_size={step_size:g}, "
                         f"constant={constant:g}, confidence={confidence:g}; steps and searches must be at least 1, "
                         "step_size and constant above 0, confidence at least 0.")
    found = images.clone()
    distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    with frozen(model):
        with torch.no_grad():
            logits = ask(model, images)
            distances[_won(logits, labels, confidence)] = 0.0
            spread = (precise(logits).amax(1) - precise(logits).amin(1)).to(images.dtype)
            unit = torch.where(spread > 0, _SPREAD / spread, 1)
        rows = (distances > 0).nonzero().squeeze(1)
        low = torch.zeros(len(rows), device=images.device)
        high, factor = torch.full_like(low, _UNBOUNDED), torch.full_like(low, constant)
        for _ in range(searches if len(rows) else 0):
            points, lengths = _descend(model, images[rows], labels[rows], factor * unit[rows], steps, step_size,
                                       confidence)
            closer = lengths < distances[rows]
            found[rows[closer]], distances[rows[closer]] = points[closer], lengths[closer]
            worked = torch.isfinite(lengths)
            low, high = torch.where(worked, low, factor), torch.where(worked, factor, high)
            factor = torch.where(high < _UNBOUNDED, (low + high) / 2, factor * 10)
        rows = rows[torch.isfinite(distances[rows])]
        if len(rows) and confidence == 0:
            near = refine(model, images[rows], labels[rows], found[rows])
            found[rows] = drop_perpendicular(model, images[rows], labels[rows], near, norm)
            distances[rows] = distance(found[rows], images[rows], norm)
    return found, distances


def _descend(model: Model, images: Tensor, labels: Tensor, factor: Tensor, steps: int, step_size: float,
             confidence: float) -> tuple[Tensor, Tensor]:
    """One run at fixed constants `factor` (n,): (nearest adversarial points, their distances or infinity)."""
    found = images.clone()
    distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    rows, best, shortest = torch.arange(len(images), device=images.device), found, distances
    origin = torch.atanh((2 * images - 1) * _INSIDE)
    free, first, second = origin, torch.zeros_like(images), torch.zeros_like(images)
    fallen = torch.full((len(images),), torch.inf, device=images.device)
    stalled, going = torch.zeros_like(labels), torch.ones_like(labels, dtype=torch.bool)
    period = max(steps // _LOOKS, 1)
    for step in range(steps):
        if due(step) and (index := shrink(going)) is not None:
            found[rows], distances[rows] = best, shortest
            rows, images, labels, factor, best, shortest = (
                part[index] for part in (rows, images, labels, factor, best, shortest))
            free, first, second, fallen, stalled, going = (
                part[index] for part in (free, first, second, fallen, stalled, going))
            if len(rows) == 0:
                return found, distances
        points, loss, logits, gradient = _loss_and_gradient(model, free, images, labels, factor, confidence)
        lengths = distance(points, images, "l2")
        closer = _won(logits, labels, confidence) & (lengths < shortest)
        best = torch.where(closer.reshape(-1, 1, 1, 1), points, best)
        shortest = torch.where(closer, lengths, shortest)
        first = torch.lerp(gradient, first, _BETA1)
        second = torch.lerp(gradient * gradient, second, _BETA2)
        rate = step_size * (1 - _BETA2 ** (step + 1)) ** 0.5 / (1 - _BETA1 ** (step + 1))
        free = free - rate * first / (second.sqrt() + _ADAM_EPSILON)
        if (step + 1) % period == 0:
            stalled = torch.where(loss <= fallen * _PROGRESS, 0, stalled + 1)
            going, fallen = stalled < 2, loss
    found[rows], distances[rows] = best, shortest
    return found, distances


def _won(logits: Tensor, labels: Tensor, confidence: float) -> Tensor:
    return logits.argmax(1) != labels if confidence == 0 else margin(logits, labels) > confidence


def _loss_and_gradient(model: Model, free: Tensor, images: Tensor, labels: Tensor, factor: Tensor,
                       confidence: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(points, objective per image (n,), logits, gradient with respect to the free variables)."""
    with torch.enable_grad():
        variable = free.detach().requires_grad_()
        points = (torch.tanh(variable) + 1) / 2
        logits = ask(model, points)
        # A tie within rounding is no success.
        rounding = torch.finfo(logits.dtype).eps * precise(logits).detach().abs().amax(1)
        hinge = (rounding.clamp(min=confidence) - margin(logits, labels)).clamp(min=0)
        loss = ((points - images) ** 2).flatten(1).sum(1) + factor * hinge
        # Never None, because the distance of the points is part of the loss.
        gradient = cast(Tensor, slope(loss.sum(), variable))
    return points.detach(), loss.detach(), logits.detach(), gradient
