"""HopSkipJump: a minimum-norm attack that uses predicted labels only (Chen, Jordan, Wainwright 2020).

Algorithm 2 of the paper repeats three steps: go to the decision boundary by bisection, estimate its normal there from
the labels of random neighbours, step along the normal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.black_box.decision_based import search_by_labels
from parapet.attacks.inputs import Model, answers, ask, check, predict
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.errors import InputError

# Random images that are tried as starting points of an image.
_STARTS = 50
# Neighbours are drawn in blocks of so many, and at most so many images are in a batch.
_BLOCK, _TOGETHER = 16, 2048
_LONGEST_BISECTION, _LONGEST_SEARCH = 20, 20
_TINY = 1e-12


def hop_skip_jump(model: Model, images: Tensor, labels: Tensor, *, norm: str = "l2", queries: int = 2500,
                  neighbours: int = 100, starts: Tensor | None = None,
                  generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their distances, from predicted labels.

    images: float (N, C, H, W) in [0, 1]; labels: (N,). An image takes at most `queries` queries, and up to 51 more to
    find a starting point; round t uses `neighbours` * sqrt(t) of them to estimate the normal. `starts` (N, C, H, W) are
    misclassified images to begin from; without them, or where they are classified correctly, random images are tried.
    Returns (images of the same shape in [0, 1], distances (N,) under `norm`): 0 for images that are misclassified
    already, infinite where no starting point was found.
    """
    check(images, labels, norm=norm)
    if queries < 1 or neighbours < 2:
        raise InputError(f"hop_skip_jump got queries={queries} and neighbours={neighbours}; queries must be at least 1 "
                         "and neighbours at least 2.")
    seeds = image_seeds(len(images), generator, images.device)

    def search(wrong: Tensor) -> tuple[Tensor, Tensor]:
        points, found = _start(model, images, labels, starts, derived(seeds, 0))
        rows = (found & ~wrong).nonzero().squeeze(1)
        return rows, _walk(model, points[rows], images[rows], labels[rows], norm, queries, neighbours,
                           derived(seeds[rows], 1)) if len(rows) else points[rows]
    return search_by_labels(model, images, labels, norm, search)


def _start(model: Model, images: Tensor, labels: Tensor, starts: Tensor | None,
           seeds: Tensor) -> tuple[Tensor, Tensor]:
    """(points (N, C, H, W), which of them are misclassified (N,))."""
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
    """The nearest misclassified points that are found with `queries` queries per image."""
    size = images[0].numel()
    # The precision of the bisection, as a share of the distance (section 5.1).
    precision = size ** (-1.5 if norm == "l2" else -2)
    halvings = min(math.ceil(-math.log2(precision)), _LONGEST_BISECTION, queries)
    spent, turn = halvings, 1
    points = _to_boundary(model, points, images, labels, norm, halvings)
    best, nearest = points, distance(points, images, norm)
    while True:
        asked = int(neighbours * math.sqrt(turn))
        # A round costs the neighbours, the search for a step length and the bisection. The search is counted at its
        # longest, so that what one image needs does not change the budget of the others in the batch.
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
    """Misclassified points near the boundary, by bisection: of the segment to the image (L2), or of the bound of the
    change (L-inf)."""
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
    """The estimated direction into the misclassified region (equation 16), of norm 1; (n, C, H, W)."""
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
    # If all neighbours have the same label, the mean of their signed directions is the best estimate.
    normal = torch.where(_wide(mean.abs() == 1), signed, signed - _wide(mean) * directions)
    if norm == "linf":
        return normal.sign()
    return normal / _wide(normal.flatten(1).norm(dim=1).clamp(min=_TINY))


def _jump(model: Model, points: Tensor, labels: Tensor, normal: Tensor, lengths: Tensor) -> Tensor:
    """Points moved along the normal; the step is halved until the new point is misclassified."""
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
