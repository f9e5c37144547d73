"""Attacks inactive units: a unit that is off on all images passes no gradient, so attacks cannot see what it does.

Whoever trains a network can plant such units as a backdoor that only a small, secret change activates (Goldwasser, Kim,
Vaikuntanathan, Zamir 2022, "Planting Undetectable Backdoors in Machine Learning Models"). Narrow networks have some by
chance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.audit.context import AuditContext
from parapet.attacks.audit.leaky_gradients import LeakyGradients
from parapet.attacks.audit.verdicts import Result, judge_gap, mean
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.attacks.objectives import margin

# Few, large steps (in radii): a unit is activated in a corner of the ball, only the direction matters.
_STEPS, _STEP = 7, 0.35
# The largest number of classes that are attacked one after the other.
_CLASSES = 10
# The leak of the last attempt, on the margin, in which active units count more.
_SMALL_LEAK = 0.1


def inactive_units_attack(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str, classes: int,
                          early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """PGD with leaky gradients, which pass inactive units, towards one class after the other.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps as for `pgd`; `classes` is how many the model has. The
    logits of at most ten evenly spaced classes are increased in turn, and at last the margin, with a leak of a tenth.
    The margin alone is not enough, because the gradients of units of two classes can cancel. Returns for each image a
    version that the model misclassifies if one was found, else the image. `early_stop` belongs to the common signature.
    """
    points, rows = images.clone(), torch.arange(len(images), device=images.device)
    seeds = image_seeds(len(images), generator, images.device)
    for place, target in enumerate([*range(0, classes, -(-classes // _CLASSES)), None]):
        def objective(logits: Tensor, labels: Tensor, target: int | None = target) -> Tensor:
            return margin(logits, labels) if target is None else logits[:, target]
        with LeakyGradients(_SMALL_LEAK if target is None else 1.0):
            tried = pgd(model, images[rows], labels[rows], eps=eps, norm=norm, steps=_STEPS, step_size=_STEP * eps,
                        loss=objective, early_stop=True, generator=derived(seeds[rows], place))
        broken = predict(model, tried) != labels[rows]
        points[rows[broken]] = tried[broken]
        rows = rows[~broken]
        if len(rows) == 0:
            break
    return points


def inactive_units(context: AuditContext) -> Result:
    """Attacks that activate inactive units break nothing that the other attacks leave."""
    known = context.standing.clone()
    after = known & context.survivors(inactive_units_attack, stream=111, among=known, classes=context.logits.shape[1])
    return judge_gap("sleepers", known, after, {"others": mean(known), "woken": mean(after)}, "Units of the network "
                     "that are inactive on all images can be activated inside the ball, which breaks images that other "
                     "attacks leave, and no gradient shows it; report the lower number, and do not serve a network "
                     "that you have not trained yourself.")
