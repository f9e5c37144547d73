"""Square Attack: random search over squares, without gradients (Andriushchenko, Croce, Flammarion, Hein 2020).

Algorithm 1 of the paper, with the schedule of AutoAttack. Squares are drawn for each image separately, so that the
other images of a batch change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from parapet.attacks.balls import ball
from parapet.attacks.batching import due, shrink
from parapet.attacks.black_box.square_proposals import L2Squares, LinfSquares
from parapet.attacks.inputs import Model, ask, check, frozen
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.attacks.objectives import margin
from parapet.errors import InputError

# The queries, of 10,000, after which the share of pixels that a square covers is halved (appendix B).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# The random numbers of so many queries are drawn together: one draw per query would cost more than the proposal.
_BLOCK = 64
# Batches of queries are multiples of this, because oneDNN searches for kernels at each new size.
_ASKED_TOGETHER = 16


def square(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf", queries: int = 5000,
           initial_share: float = 0.8, rescale: bool = False, start: Tensor | None = None, patience: int | None = None,
           early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """Random search inside the ball with at most `queries` + 1 forward passes an image, no gradients.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2.
    `initial_share` in (0, 1] is the share of pixels that the first squares cover; it is halved at fixed queries, or,
    with `rescale`, at fixed shares of `queries`. The search begins at `start` (N, C, H, W), by default at the stripes
    of the paper, and ends early when `patience` queries in a row have broken none of the images (tested every few
    queries). A broken image is never changed again, as in the paper; `early_stop` belongs to the common signature.
    Returns for each image the version of the largest margin found. Raises InputError for options out of range.
    """
    check(images, labels, eps=eps, norm=norm)
    if patience is not None and patience < 1:
        raise InputError(f"square got patience={patience}; it must be at least 1, or None to spend all queries.")
    if start is not None and start.shape != images.shape:
        raise InputError(f"start has shape {tuple(start.shape)}, and the images have {tuple(images.shape)}; it is one "
                         "point for each image.")
    if queries < 1 or not 0 < initial_share <= 1:
        raise InputError(f"square got queries={queries} and initial_share={initial_share:g}; queries must be at least "
                         "1 and initial_share must lie in (0, 1].")
    best = images.clone(memory_format=torch.contiguous_format)
    if len(images) == 0:
        return best
    seeds = image_seeds(len(images), generator, images.device)
    kind = LinfSquares if norm == "linf" else L2Squares
    with frozen(model), torch.no_grad():
        search = kind(best, eps, uniform(derived(seeds, 0), kind.start_draws(images.shape)))
        if start is not None:
            search.points = ball(images, eps, norm).project(start.to(images.dtype)).contiguous()
        seeds, rows = derived(seeds, 1), torch.arange(len(images), device=images.device)
        value, draws = margin(ask(model, search.points), labels), uniform(seeds, (1,))
        standing, since = len(images), 0
        for first, last in _stretches(queries, initial_share, rescale=rescale):
            if due(first) and (index := shrink(value <= 0)) is not None:
                best[rows] = search.points
                rows, seeds, value, labels = rows[index], seeds[index], value[index], labels[index]
                search, draws = search.select(index), draws[index]
                if len(rows) == 0:
                    return best
            if patience is not None and due(first):
                left = int((value <= 0).sum())
                standing, since = left, (first if left < standing else since)
                if first - since >= patience:
                    break
            if first % _BLOCK == 0:
                draws = uniform(seeds, (_BLOCK, search.draws), first // _BLOCK)
            search.plan(search.side(share_of_pixels(first, queries, initial_share, rescale=rescale)),
                        draws[:, first % _BLOCK:first % _BLOCK + last - first])
            for turn in range(last - first):
                points = search.propose(turn)
                tried = _margins(model, points, labels, search.changed(), value)
                better = (tried > value) & (value <= 0)  # a broken image stays unchanged until it leaves
                search.settle(better)
                value = torch.where(better, tried, value)
        best[rows] = search.points
    return best


def _margins(model: Model, points: Tensor, labels: Tensor, changed: Tensor, value: Tensor) -> Tensor:
    """The margin (n,) of each proposal; a proposal that changes nothing keeps its `value` and needs no query.

    On grey images a fifth of the squares have the colour of the pixels they cover. On CUDA all are queried, because
    counting them would synchronise.
    """
    index = None if points.is_cuda else shrink(changed, _ASKED_TOGETHER)
    if index is None:
        return margin(ask(model, points), labels)
    tried = value.clone()
    if len(index):
        tried[index] = margin(ask(model, points[index]), labels[index])
    return tried


def _stretches(queries: int, initial: float, *, rescale: bool) -> Iterator[tuple[int, int]]:
    """(first query, one after the last) of each stretch of queries with the same batch and size of squares.

    A stretch ends where the batch may shrink, so it never crosses a block of random numbers.
    """
    shares = [share_of_pixels(query, queries, initial, rescale=rescale) for query in range(queries)]
    starts = [query for query in range(queries) if due(query) or shares[query] != shares[query - 1]]
    return zip(starts, [*starts[1:], queries])


def share_of_pixels(query: int, queries: int, initial: float, *, rescale: bool) -> float:
    """The share of pixels that a square covers at `query`."""
    place = int(query / queries * 10_000) if rescale else query
    share: float = initial / 2 ** sum(place > bound for bound in _HALVINGS)
    return share

