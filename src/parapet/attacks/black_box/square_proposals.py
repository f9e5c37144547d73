"""The proposals of Square Attack: random squares in L-inf and L2 (algorithms 2 and 3 of the paper).

An object holds the best points so far of a batch. `plan` takes the random numbers of several queries, `propose`
returns for each of them points that differ from the best ones by a random square in each image, and `settle` keeps
those that were better.
"""

from __future__ import annotations

import copy
import math
from typing import Self

import torch
from torch import Tensor

from parapet.attacks.balls import L2Ball, LinfBall

_TINY = 1e-12
# Squares of several queries are computed together, up to so many pixels.
_PIXELS_AHEAD = 2**20


class _Squares:
    """The best points so far; `draws` is how many random numbers a query of one image takes."""

    points: Tensor
    draws: int
    _per_image: tuple[str, ...]

    def plan(self, side: int, draws: Tensor) -> None:
        """Take the uniform `draws` (n, queries, self.draws) of squares of `side` pixels."""
        self._side, self._drawn = side, draws

    def select(self, index: Tensor) -> Self:
        """The proposals of the images `index` only; `plan` has to follow."""
        part = copy.copy(self)
        for name in self._per_image:
            setattr(part, name, getattr(self, name)[index])
        return part


class LinfSquares(_Squares):
    """Squares of colour +-eps; every pixel is at one of the two limits of its range."""

    _per_image = "lower", "upper", "points"

    def __init__(self, images: Tensor, eps: float, noise: Tensor) -> None:
        """Start from vertical stripes; `noise` is uniform (N, *start_draws)."""
        around = LinfBall(images, eps)
        self.lower, self.upper = (bound.contiguous() for bound in (around.lower, around.upper))
        self.points = torch.where(noise < 0.5, self.lower, self.upper)
        self.draws = 2 + images.shape[1]

    @staticmethod
    def start_draws(shape: torch.Size) -> tuple[int, ...]:
        """The shape of the noise for the start of one image, given that of the batch."""
        return shape[1], 1, shape[3]

    def side(self, share: float) -> int:
        """The side in pixels of a square that covers `share` of the image."""
        return _side(share, *self.points.shape[2:], smallest=1)

    def plan(self, side: int, draws: Tensor) -> None:
        """Take the uniform `draws` (n, queries, self.draws) of squares of `side` pixels."""
        super().plan(side, draws)
        self._ahead = max(1, _PIXELS_AHEAD // max(1, draws.shape[0] * self.points.shape[1] * side * side))

    def propose(self, turn: int) -> Tensor:
        """The best points with one square each, from the draws of query `turn` (0, 1, ... in this order)."""
        if turn % self._ahead == 0:
            self._squares(self._drawn[:, turn:turn + self._ahead])
        self._index, self._after = self._windows[turn % self._ahead], self._colours[turn % self._ahead]
        # The square is written into the points, and undone later if it did not help: no copy of whole images.
        self._before = self._pixels(self.points).gather(2, self._index)
        self._pixels(self.points).scatter_(2, self._index, self._after)
        return self.points

    def _squares(self, draws: Tensor) -> None:
        """Compute positions and colours of the squares of the next queries, both (queries, n, C, side * side)."""
        draws = draws.transpose(0, 1)
        channels, height, width = self.points.shape[1:]
        window = _window(draws[..., 0], draws[..., 1], self._side, height, width)
        self._windows = window[:, :, None].expand(-1, -1, channels, -1)
        lower, upper = (self._pixels(bound).expand(len(draws), -1, -1, -1).gather(3, self._windows)
                        for bound in (self.lower, self.upper))
        self._colours = torch.where(draws[..., 2:, None] < 0.5, lower, upper)

    def changed(self) -> Tensor:
        """Whether the last proposal differs from the best point, bool (n,)."""
        return (self._before != self._after).flatten(1).any(1)

    def settle(self, better: Tensor) -> None:
        """Keep the squares of the images `better`, bool (n,), undo the others."""
        self._pixels(self.points).scatter_(2, self._index,
                                           torch.where(better[:, None, None], self._after, self._before))

    @staticmethod
    def _pixels(images: Tensor) -> Tensor:
        return images.view(*images.shape[:2], -1)


class L2Squares(_Squares):
    """Squares of a fixed pattern; norm is moved from one window to another, and the distance is always eps."""

    _per_image = "images", "points"

    def __init__(self, images: Tensor, eps: float, noise: Tensor) -> None:
        """Start from a 5 x 5 grid of patterns; `noise` is uniform (N, *start_draws)."""
        self.images, self.eps, self.draws = images.clone(), eps, 5 + images.shape[1]
        height, width = images.shape[2:]
        tile = max(height // 5, 1)
        start = torch.zeros_like(images)
        for row in range(min(5, height // tile)):
            for column in range(min(5, width // tile)):
                signs = torch.where(noise[:, :-1, row, column] < 0.5, -1.0, 1.0)[..., None, None]
                pattern = _pattern(tile, noise[:, -1, row, column])
                start[:, :, row * tile:(row + 1) * tile, column * tile:(column + 1) * tile] = pattern * signs
        self.points = self._spend(start)

    @staticmethod
    def start_draws(shape: torch.Size) -> tuple[int, ...]:
        """The shape of the noise for the start of one image, given that of the batch."""
        return shape[1] + 1, 5, 5

    def side(self, share: float) -> int:
        """The side in pixels, odd if that fits, of a square that covers `share` of the image."""
        height, width = self.points.shape[2:]
        return min(_side(share, height, width, smallest=3) | 1, height, width)

    def propose(self, turn: int) -> Tensor:
        """The points with the norm of one random window moved into another, from the draws of query `turn`."""
        side, draws = self._side, self._drawn[:, turn]
        height, width = self.points.shape[2:]
        channels = self.points.shape[1]
        delta = (self.points - self.images).flatten(2)
        into, source = (_window(draws[:, place], draws[:, place + 1], side, height, width)[:, None].expand(
            -1, channels, -1) for place in (0, 2))
        inside = torch.zeros_like(delta).scatter_(2, source, 1.0).scatter_(2, into, 1.0)
        norms = (delta * inside).norm(dim=2, keepdim=True)
        old = delta.gather(2, into)
        signs = torch.where(draws[:, 5:] < 0.5, -1.0, 1.0)[..., None]
        new = _pattern(side, draws[:, 4]).flatten(2) * signs + old / (old.norm(dim=2, keepdim=True) + _TINY)
        unspent = (self.eps**2 - delta.flatten(1).norm(dim=1)**2).clamp(min=0).reshape(-1, 1, 1)
        new = new / (new.norm(dim=2, keepdim=True) + _TINY) * (unspent / channels + norms**2).sqrt()
        delta.scatter_(2, source, 0.0).scatter_(2, into, new)
        self._tried = self._spend(delta.reshape(self.points.shape))
        return self._tried

    def changed(self) -> Tensor:
        """Whether the last proposal differs from the best point, bool (n,): here it always does."""
        return torch.ones(len(self.points), dtype=torch.bool, device=self.points.device)

    def settle(self, better: Tensor) -> None:
        """Keep the proposal of the images `better` (n,)."""
        self.points = torch.where(better.reshape(-1, 1, 1, 1), self._tried, self.points)

    def _spend(self, delta: Tensor) -> Tensor:
        """Images moved by eps along `delta`, inside the ball and [0, 1]."""
        return L2Ball(self.images, self.eps).step(self.images, delta, self.eps)


def _side(share: float, height: int, width: int, *, smallest: int) -> int:
    return min(max(round(math.sqrt(share * height * width)), smallest), height, width)


def _window(vertical: Tensor, horizontal: Tensor, side: int, height: int, width: int) -> Tensor:
    """Flat pixel indices (..., side * side) of squares at random positions, from uniform numbers (...)."""
    top, left = (vertical * (height - side + 1)).long(), (horizontal * (width - side + 1)).long()
    offsets = torch.arange(side, device=top.device)
    square = (offsets[:, None] * width + offsets).flatten()
    return (top * width + left)[..., None] + square


def _pattern(side: int, noise: Tensor) -> Tensor:
    """The pattern of section 3.3, of norm 1: a peak above a negative peak, (n, 1, side, side); transposed where `noise`
    (n,) is at least 0.5."""
    upper, lower = _peak(side // 2, side), _peak(side - side // 2, side)
    pattern = torch.cat([upper, -lower]).to(noise.device)
    pattern = pattern / pattern.norm().clamp(min=_TINY)
    return torch.where(noise.reshape(-1, 1, 1, 1) < 0.5, pattern, pattern.T)


def _peak(height: int, width: int) -> Tensor:
    """Nested rectangles around the centre of (height, width), the k-th adding 1 / k^2; of norm 1."""
    peak = torch.zeros(height, width)
    row, column = height // 2, width // 2
    for ring in range(max(row, column) + 1):
        peak[max(row - ring, 0):row + ring + 1, max(column - ring, 0):column + ring + 1] += 1 / (ring + 1) ** 2
    length: Tensor = peak.norm()
    return peak / length.clamp(min=_TINY)
