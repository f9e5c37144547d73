"""HopSkipJump: a minimum-norm attack that sees predicted labels alone (Chen, Jordan, Wainwright 2020).

Algorithm 2 of the paper: walk to the boundary by bisection, estimate its normal there from the labels of random
neighbours, step along it, and again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.inputs import Model, answers, ask, check, frozen, predict
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.errors import InputError

# Random images tried as starting points before an image is given up.
_STARTS = 50
# Neighbours are drawn in blocks of so many, and asked about so many images at once at most.
_BLOCK, _TOGETHER = 16, 2048
_LONGEST_BISECTION, _LONGEST_SEARCH = 20, 20
_TINY = 1e-12


def hop_skip_jump(model: Model, images: Tensor, labels: Tensor, *, norm: str = "l2", queries: int = 2500,
                  neighbours: int = 100, starts: Tensor | None = None,
                  generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their distances, from predicted labels.

    images: float (N, C, H, W) in [0, 1]; labels: (N,). At most `queries` labels are asked for an image, and 51 more
    where a start is hard to find; the t-th round asks for `neighbours` * sqrt(t) to estimate the normal. `starts`
    (N, C, H, W) are misclassified images to begin from; where they are not, or without them, random images are tried.
    Returns (images of the same shape in [0, 1], distances (N,) under `norm`): 0 for images that are wrong already,
    infinite where no start was found.
    """
    check(images, labels, norm=norm)
    if queries < 1 or neighbours < 2:
        raise InputError(f"hop_skip_jump got queries={queries} and neighbours={neighbours}; queries must be at least 1 "
                         "and neighbours at least 2.")
    seeds = image_seeds(len(images), generator, images.device)
    distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    if len(images) == 0:
        return images.clone(), distances
    with frozen(model), torch.no_grad():
        wrong = predict(model, images) != labels
        points, found = _start(model, images, labels, starts, derived(seeds, 0))
        found &= ~wrong
        rows = found.nonzero().squeeze(1)
        result = images.clone()
        if len(rows):
            result[rows] = _walk(model, points[rows], images[rows], labels[rows], norm, queries, neighbours,
                                 derived(seeds[rows], 1))
    distances[rows] = distance(result[rows], images[rows], norm)
    distances[wrong] = 0.0
    return result, distances


def _start(model: Model, images: Tensor, labels: Tensor, starts: Tensor | None,
           seeds: Tensor) -> tuple[Tensor, Tensor]:
    """(misclassified points, where there are some)."""
    points = 1 - images if starts is None else starts.clone()
    found = predict(model, points) != labels
    for draw in range(_STARTS):
        if found.all():
            break
        rows = (~found).nonzero().squeeze(1)
        tried = uniform(seeds[rows], images.shape[1:], draw).to(images.dtype)
        fooled = predict(model, tried) != labels[rows]
        points[rows[fooled]], found[rows[fooled]] = tried[fooled], True
    return points, found


def _walk(model: Model, points: Tensor, images: Tensor, labels: Tensor, norm: str, queries: int, neighbours: int,
          seeds: Tensor) -> Tensor:
    """The nearest misclassified points that `queries` labels an image lead to."""
    size = images[0].numel()
    # The bisection's precision, as a share of the distance (section 5.1), and how far the neighbours lie.
    precision = size ** (-1.5 if norm == "l2" else -2)
    halvings = min(math.ceil(-math.log2(precision)), _LONGEST_BISECTION, queries)
    spent, turn = halvings, 1
    points = _to_boundary(model, points, images, labels, norm, halvings)
    best, nearest = points, distance(points, images, norm)
    while True:
        asked = int(neighbours * math.sqrt(turn))
        # A round costs the neighbours, the search for a step length and the bisection. The search counts as long as it
        # may become, because what a neighbour in the batch needs must not change what this image gets.
        asked = min(asked, queries - spent - halvings - _LONGEST_SEARCH)
        if asked < 2:
            return best
        lengths = distance(points, images, norm).to(images.dtype)
        reach = 0.1 if turn == 1 else lengths * precision * (size ** 0.5 if norm == "l2" else size)
        normal = _normal(model, points, labels, norm, asked, reach * torch.ones_like(lengths), derived(seeds, turn))
        points = _jump(model, points, labels, normal, lengths / math.sqrt(turn))
        points = _to_boundary(model, points, images, labels, norm, halvings)
        spent += asked + _LONGEST_SEARCH + halvings
        lengths = distance(points, images, norm)
        best = torch.where(_wide(lengths < nearest), points, best)
        nearest = torch.minimum(nearest, lengths)
        turn += 1


def _to_boundary(model: Model, points: Tensor, images: Tensor, labels: Tensor, norm: str, halvings: int) -> Tensor:
    """The misclassified points nearest to the images: on the segment (L2), or under a shrinking bound (L-inf)."""
    whole = _wide(distance(points, images, norm).to(images.dtype))
    low, high = torch.zeros_like(whole), torch.ones_like(whole)
    far = points
    for _ in range(halvings):
        middle = (low + high) / 2
        if norm == "l2":
            tried = torch.lerp(images, far, middle)
        else:
            tried = torch.clamp(far, images - middle * whole, images + middle * whole)
        fooled = _wide(ask(model, tried).argmax(1) != labels)
        points = torch.where(fooled, tried, points)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return points


def _normal(model: Model, points: Tensor, labels: Tensor, norm: str, count: int, reach: Tensor,
            seeds: Tensor) -> Tensor:
    """The estimated direction into the misclassified side (equation 16), as a step of unit norm; (n, C, H, W)."""
    shape, part = points.shape[1:], max(_TOGETHER // (len(points) * _BLOCK), 1) * _BLOCK
    directions, signs = torch.zeros_like(points), torch.zeros(len(points), device=points.device)
    # Two sums give the mean of (sign - mean sign) * direction without keeping the directions.
    signed, number = torch.zeros_like(points), 0
    for place in range(0, count, part):
        many = min(part, count - place)
        blocks = range(place // _BLOCK, -(-(place + many) // _BLOCK))
        noise = torch.cat([uniform(seeds, (_BLOCK, *shape), block) for block in blocks], 1)[:, :many]
        drawn = 2 * noise.to(points.dtype) - 1
        drawn = drawn / drawn.flatten(2).norm(dim=2).clamp(min=_TINY)[..., None, None, None]
        tried = (points[:, None] + reach.reshape(-1, 1, 1, 1, 1) * drawn).clamp(0, 1)
        drawn = (tried - points[:, None]) / reach.reshape(-1, 1, 1, 1, 1)
        fooled = answers(model, tried.flatten(0, 1)).argmax(1).reshape(len(points), many) != labels[:, None]
        sign = torch.where(fooled, 1.0, -1.0).to(points.dtype)
        signed += torch.einsum("nb,nbchw->nchw", sign, drawn)
        directions += drawn.sum(1)
        signs += sign.sum(1)
        number += many
    mean = signs / number
    # Where all neighbours agree the mean of their directions, so signed, is the best guess.
    normal = torch.where(_wide(mean.abs() == 1), signed, signed - _wide(mean) * directions)
    if norm == "linf":
        return normal.sign()
    return normal / _wide(normal.flatten(1).norm(dim=1).clamp(min=_TINY))


def _jump(model: Model, points: Tensor, labels: Tensor, normal: Tensor, lengths: Tensor) -> Tensor:
    """Points moved along the normal and still misclassified: the length is halved until they are."""
    landed, done = points, torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for asked in range(_LONGEST_SEARCH):
        tried = (points + _wide(lengths / 2**asked) * normal).clamp(0, 1)
        fooled = (ask(model, tried).argmax(1) != labels) & ~done
        landed, done = torch.where(_wide(fooled), tried, landed), done | fooled
        if done.all():
            break
    return landed


def _wide(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
