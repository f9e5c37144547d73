"""Fast gradient sign method: one step of the whole radius (Goodfellow, Shlens, Szegedy 2015)."""

from __future__ import annotations

from torch import Tensor

from parapet.attacks.balls import ball
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.noise import Generator
from parapet.attacks.objectives import log_odds


def fgsm(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf",
         early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """Images moved by eps along the sign of the cross-entropy's gradient (L2: along its direction).

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2.
    Returns images of the same shape, inside the ball. `early_stop` and `generator` belong to the common signature and
    change nothing here.
    """
    check(images, labels, eps=eps, norm=norm)
    with frozen(model):
        _, _, gradient = input_gradient(model, images, labels, log_odds)
    return ball(images, eps, norm).step(images, gradient, eps)
