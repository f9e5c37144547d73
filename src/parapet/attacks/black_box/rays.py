"""RayS: a search among the corners of L-inf balls that uses predicted labels only (Chen and Gu 2020).

Chen, Gu: "RayS: A Ray Searching Method for Hard-label Adversarial Attack", KDD 2020. A direction is a sign for each
pixel; bisection finds the nearest misclassified point along it. Signs are flipped in blocks, from all pixels down to
single ones, and a flip is kept if the point comes nearer. Ours is the restart: when all blocks were tried, the search
begins again with blocks of other pixels, and keeps the nearest point of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from parapet.attacks.balls import ball
from parapet.attacks.black_box.decision_based import search_by_labels
from parapet.attacks.inputs import Model, answers, check
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.errors import InputError

# A bisection halves its interval so many times, or until the queries are spent.
_HALVINGS = 8


def rays(model: Model, images: Tensor, labels: Tensor, *, norm: str = "linf", queries: int = 5000,
         eps: float | None = None, starts: Tensor | None = None,
         generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Adversarial images near in L-inf and their distances, from predicted labels.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); norm is "linf". An image takes at most `queries` queries (at
    least 2), and one for the clean image; with `eps` in (0, 1] it ends once an adversarial image within that radius is
    found. The first direction is towards `starts` (N, C, H, W), by default towards white. Returns (images of the same
    shape in [0, 1], distances (N,)): 0 for images that are misclassified already, infinite where nothing was found.
    """
    check(images, labels, norm=norm, **({} if eps is None else {"eps": eps}))
    if norm != "linf":
        raise InputError(f"rays got norm={norm}; it searches the corners of L-inf balls, so norm must be linf.")
    if queries < 2:
        raise InputError(f"rays got queries={queries}; it must be at least 2.")
    seeds = image_seeds(len(images), generator, images.device)

    def search(wrong: Tensor) -> tuple[Tensor, Tensor]:
        rows = (~wrong).nonzero().squeeze(1)
        signs = torch.ones_like(images) if starts is None else torch.where(starts < images, -1.0, 1.0).to(images.dtype)
        state = _Rays(model, images[rows], labels[rows], queries, eps or 0.0)
        state.run(signs[rows].flatten(1), seeds[rows])
        found = state.radii < torch.inf
        return rows[found], state.points[found]
    return search_by_labels(model, images, labels, norm, search)


class _Rays:
    """The search: for each image the nearest misclassified point so far (n, C, H, W), its radius, and the spent
    queries. An image is done when the radius is at most `eps` or its `queries` are spent."""

    def __init__(self, model: Model, images: Tensor, labels: Tensor, queries: int, eps: float) -> None:
        self.model, self.images, self.labels, self.queries, self.eps = model, images, labels, queries, eps
        self.halvings = min(_HALVINGS, queries - 1)
        self.points = images.clone()
        self.radii = torch.full(labels.shape, torch.inf, dtype=images.dtype, device=images.device)
        self.spent = torch.zeros_like(labels)

    def run(self, first: Tensor, seeds: Tensor) -> None:
        """Search from the direction `first` (n, CHW) until all images are done, each time with other blocks."""
        turn = 0
        while len(rows := self._open()):
            self._descend(rows, first[rows], _blocks(seeds[rows], first.shape[1], turn))
            turn += 1

    def _open(self) -> Tensor:
        # A direction costs one query, which tells whether it is nearer at all, and the bisection.
        return ((self.radii > self.eps) & (self.spent + 1 + self.halvings <= self.queries)).nonzero().squeeze(1)

    def _descend(self, rows: Tensor, signs: Tensor, blocks: Iterable[Tensor]) -> None:
        """Flip each block of the directions `signs` (m, CHW) of the images `rows` (m,), if that leads nearer."""
        signs, radii = signs.clone(), torch.full_like(self.radii[rows], torch.inf)
        every = torch.arange(len(rows), device=rows.device)
        self._improve(rows, every, signs, radii, signs)
        for block in blocks:
            index = every[torch.isin(rows, self._open())]
            if len(index) == 0:
                return
            flipped = signs[index].scatter(1, block[index], -signs[index].gather(1, block[index]))
            self._improve(rows, index, signs, radii, flipped)

    def _improve(self, rows: Tensor, index: Tensor, signs: Tensor, radii: Tensor, tried: Tensor) -> None:
        """Store in `signs` and `radii`, at `index` (k,), the directions `tried` (k, CHW) that lead nearer."""
        high = radii[index].clamp(max=1)
        nearer = self._fooled(rows[index], tried, high)
        index, tried, high = index[nearer], tried[nearer], high[nearer]
        low = torch.zeros_like(high)
        for _ in range(self.halvings if len(index) else 0):
            middle = (low + high) / 2
            fooled = self._fooled(rows[index], tried, middle)
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        better = high < radii[index]
        index, tried, high = index[better], tried[better], high[better]
        signs[index], radii[index] = tried, high
        best = high < self.radii[rows[index]]
        chosen = rows[index[best]]
        points = _along(self.images[chosen], tried[best], high[best])
        # Rounding may move a point slightly out of the ball.
        inside = ball(self.images[chosen], self.eps, "linf").project(points) if self.eps else points
        within = (high[best] <= self.eps).reshape(-1, 1, 1, 1)
        self.radii[chosen], self.points[chosen] = high[best], torch.where(within, inside, points)

    def _fooled(self, rows: Tensor, signs: Tensor, radii: Tensor) -> Tensor:
        self.spent[rows] += 1
        return answers(self.model, _along(self.images[rows], signs, radii)).argmax(1) != self.labels[rows]


def _along(images: Tensor, signs: Tensor, radii: Tensor) -> Tensor:
    return (images + radii.reshape(-1, 1, 1, 1) * signs.reshape(images.shape)).clamp(0, 1)


def _blocks(seeds: Tensor, size: int, turn: int) -> Iterator[Tensor]:
    """The pixels (n, length) that are flipped together, from all of them to single ones: consecutive pixels in turn 0,
    then random ones for each image."""
    order = torch.arange(size, device=seeds.device).expand(len(seeds), -1)
    if turn:
        order = uniform(derived(seeds, turn), (size,)).argsort(1)
    while True:
        yield from order.split(size, 1)
        if size == 1:
            return
        size = -(-size // 2)
