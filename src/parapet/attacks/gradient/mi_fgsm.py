"""Momentum iterative FGSM, whose images transfer (Dong, Liao, Pang, Su, Zhu, Hu, Li 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import ball
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.noise import Generator
from parapet.attacks.objectives import log_odds
from parapet.errors import InputError


def mi_fgsm(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf", steps: int = 10,
            decay: float = 1.0, early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """`steps` steps of eps / steps along the accumulated gradient (algorithm 1 of the paper), from the image itself.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `decay` in
    [0, 1] is the factor of the accumulated gradient in each step. Returns the end points; an image that is broken on
    the way is attacked further, because more steps transfer better. `early_stop` and `generator` belong to the common
    signature.
    """
    check(images, labels, eps=eps, norm=norm)
    if steps < 1 or not 0 <= decay <= 1:
        raise InputError(f"mi_fgsm got steps={steps} and decay={decay:g}; steps must be at least 1 and decay must lie "
                         "in [0, 1].")
    around, points, momentum = ball(images, eps, norm), images, torch.zeros_like(images)
    with frozen(model):
        for _ in range(steps):
            _, _, gradient = input_gradient(model, points, labels, log_odds)
            size = gradient.flatten(1).abs().mean(1).reshape(-1, 1, 1, 1)
            momentum = decay * momentum + gradient / torch.where(size > 0, size, 1)
            points = around.step(points, momentum, eps / steps)
    return points
