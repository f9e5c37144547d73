"""Transfer: adversarial images of other networks (Papernot, McDaniel, Goodfellow 2016; Liu et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.gradient.mi_fgsm import mi_fgsm
from parapet.attacks.inputs import Model, ask, check, frozen
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.attacks.objectives import margin
from parapet.attacks.restarts import BestOfRuns
from parapet.errors import InputError


def transfer(model: Model, images: Tensor, labels: Tensor, *, surrogate: Model | Sequence[Model], eps: float,
             norm: str = "linf", attack: Callable[..., Tensor] = mi_fgsm, early_stop: bool = False,
             generator: Generator | None = None, **options: Any) -> Tensor:
    """Adversarial images of `attack` on each surrogate in turn, judged by the answers of `model`.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `surrogate`
    is one model or several; `options` go to `attack`. Returns for each image a version that `model`
    misclassifies if a surrogate gave one, else the one of the largest margin. With `early_stop` later surrogates are
    used only for images that survived the earlier ones.
    """
    check(images, labels, eps=eps, norm=norm)
    surrogates = [surrogate] if callable(surrogate) else list(surrogate)
    if not surrogates:
        raise InputError("surrogate is empty; give at least one model to make the adversarial images on.")
    seeds = image_seeds(len(images), generator, images.device)
    best = BestOfRuns(images)
    every = best.rows
    for place, source in enumerate(surrogates):
        rows = best.rows if early_stop else every
        if len(rows) == 0:
            break
        with frozen(source):
            points = attack(source, images[rows], labels[rows], eps=eps, norm=norm,
                            generator=derived(seeds[rows], place), **options)
        with frozen(model), torch.no_grad():
            values = margin(ask(model, points), labels[rows])
        best.rows = rows
        best.keep(points, values, values > 0)
    return best.images
