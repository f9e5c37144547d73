"""Random noise: needs no knowledge of the model; every other attack has to break at least as much."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import L2Ball, LinfBall, ball
from parapet.attacks.batching import due, shrink
from parapet.attacks.inputs import Model, answers, check, frozen
from parapet.attacks.noise import Generator, image_seeds, normal, uniform
from parapet.attacks.objectives import margin
from parapet.errors import InputError

KINDS = ("uniform", "corner")
# Several draws share a batch of about so many points, because small batches are inefficient.
_TOGETHER = 512


def random_noise(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf",
                 kind: str = "uniform", draws: int = 1000, early_stop: bool = False,
                 generator: Generator | None = None) -> Tensor:
    """The worst of `draws` random points around each image.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `kind` is
    "uniform" (in the ball; L2: on its surface, in a direction drawn from a cube) or "corner" (every pixel at +-eps;
    L2: on the surface, in a normally distributed direction). Returns for each image a version that the model
    misclassifies if one was found, else the one of the largest margin; with `early_stop` a broken image leaves the
    batch.
    """
    check(images, labels, eps=eps, norm=norm)
    if kind not in KINDS or draws < 1:
        raise InputError(f"random_noise got kind={kind!r} and draws={draws}; kind must be uniform or corner and draws "
                         "at least 1.")
    found, seeds = images.clone(), image_seeds(len(images), generator, images.device)
    around, rows = ball(images, eps, norm), torch.arange(len(images), device=images.device)
    best, value = images, torch.full((len(images),), -torch.inf, device=images.device)
    group = min(max(_TOGETHER // max(len(images), 1), 1), draws)
    with frozen(model), torch.no_grad():
        for block in range(-(-draws // group)):
            if early_stop and due(block) and (index := shrink(value <= 0)) is not None:
                found[rows] = best
                rows, seeds, labels, around = rows[index], seeds[index], labels[index], around.select(index)
                best, value = best[index], value[index]
                if len(rows) == 0:
                    return found
            points = _draw(around, seeds, images.shape[1:], block, min(group, draws - block * group), kind, group)
            tried = margin(answers(model, points.flatten(0, 1)), labels.repeat(len(points))).reshape(len(points), -1)
            tried, place = tried.max(0)
            better = tried > value
            chosen = points[place, torch.arange(len(rows), device=rows.device)]
            best = torch.where(better.reshape(-1, 1, 1, 1), chosen, best)
            value = torch.maximum(tried, value)
        found[rows] = best
    return found


def _draw(around: LinfBall | L2Ball, seeds: Tensor, shape: torch.Size, block: int, count: int, kind: str,
          group: int) -> Tensor:
    """The points of `count` draws from number `block` * `group` on, (count, n, C, H, W)."""
    if kind == "corner" and isinstance(around, L2Ball):
        noise = normal(seeds, (group, *shape), block)
        return torch.stack([around.step(around.images, noise[:, place], around.eps) for place in range(count)])
    noise = uniform(seeds, (group, *shape), block)
    if kind == "corner" and isinstance(around, LinfBall):
        return torch.stack([torch.where(noise[:, place] < 0.5, around.lower, around.upper) for place in range(count)])
    return torch.stack([around.start(noise[:, place]) for place in range(count)])
