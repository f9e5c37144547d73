"""Units that no image wakes: one that is off lets no gradient through, so no gradient shows what it would do.

Whoever trains a network can plant such units, which a small change that only he knows turns on (Goldwasser, Kim,
Vaikuntanathan, Zamir 2022, "Planting Undetectable Backdoors in Machine Learning Models"); narrow networks have some by
themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.audit.leaks import leaking
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import Result, gap, mean
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.attacks.objectives import margin

# Large steps: what matters is which way a unit lies, and it is woken in a corner of the ball.
_STEPS, _STEP = 7, 0.35
# The classes that the attack heads for one after the other, at most.
_CLASSES = 10
# What a unit that is off lets through where those that are on shall count more.
_PART = 0.1


def woken(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str, classes: int,
          early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """PGD through units that let gradients through where they are off (leaks.py), to one class after the other.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps as for `pgd`; `classes` is how many the model has;
    the logits of at most ten of them are raised, evenly spaced, and the margin last, with a tenth of the gradient let
    through. The margin alone would not do, because the gradients of two classes' units can cancel each other. Returns
    for each image a version that the model gets wrong where there is one, else the image. `early_stop` belongs to the
    common signature.
    """
    points, rows = images.clone(), torch.arange(len(images), device=images.device)
    seeds = image_seeds(len(images), generator, images.device)
    for place, target in enumerate([*range(0, classes, -(-classes // _CLASSES)), None]):
        def logit(logits: Tensor, labels: Tensor, target: int | None = target) -> Tensor:
            return margin(logits, labels) if target is None else logits[:, target]
        with leaking(_PART if target is None else 1.0):
            tried = pgd(model, images[rows], labels[rows], eps=eps, norm=norm, steps=_STEPS, step_size=_STEP * eps,
                        loss=logit, early_stop=True, generator=derived(seeds[rows], place))
        broken = predict(model, tried) != labels[rows]
        points[rows[broken]] = tried[broken]
        rows = rows[~broken]
        if len(rows) == 0:
            break
    return points


def sleepers(scene: Scene) -> Result:
    """Attacks that wake units which are off break nothing that the others leave."""
    known = scene.standing.clone()
    after = known & scene.survives(woken, stream=111, among=known, classes=scene.logits.shape[1])
    return gap("sleepers", known, after, {"others": mean(known), "woken": mean(after)}, "An attack that wakes units "
               "of the network which are off on all images breaks what other attacks leave, so there is a way in "
               "that no gradient shows; store the lower number, and do not serve a network that you have not "
               "trained yourself.")
