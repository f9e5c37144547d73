"""The balls of both norms: random start, steepest ascent step and projection in L-inf and L2.

Points stay inside the ball and inside [0, 1] after rounding to float32, measured in double precision.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class LinfBall:
    """{x' : |x' - x|_inf <= eps} within [0, 1], around each image of a batch (N, C, H, W)."""

    def __init__(self, images: Tensor, eps: float) -> None:
        self.eps = eps
        exact = images.double()
        self.lower = _inward((exact - eps).to(images.dtype), images, eps).clamp(min=0)
        self.upper = _inward((exact + eps).to(images.dtype), images, eps).clamp(max=1)

    def start(self, noise: Tensor) -> Tensor:
        """A point of the ball from uniform noise in [0, 1), shape of the images."""
        return self.project(self.lower + noise.to(self.lower.dtype) * (self.upper - self.lower))

    def step(self, points: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent under L-inf: `size` along the gradient's sign, then project."""
        return self.project(points + size * gradient.sign())

    def project(self, points: Tensor) -> Tensor:
        """The nearest point of the ball."""
        return torch.clamp(points, self.lower, self.upper)

    def select(self, index: Tensor) -> LinfBall:
        """The balls around the images `index`."""
        part = object.__new__(LinfBall)
        part.eps, part.lower, part.upper = self.eps, self.lower[index], self.upper[index]
        return part


class L2Ball:
    """{x' : |x' - x|_2 <= eps} within [0, 1], around each image of a batch (N, C, H, W)."""

    def __init__(self, images: Tensor, eps: float) -> None:
        self.eps, self.images = eps, images
        # Slightly smaller than eps: rounding to float32 moves each of n pixels of at most 1 by up to 2**-25.
        self._radius = max(0.0, eps * (1 - 1e-6) - images[0].numel() ** 0.5 * 2**-24) if len(images) else eps

    def start(self, noise: Tensor) -> Tensor:
        """A point on the sphere from uniform noise in [0, 1): the direction is that of the noise minus 1/2."""
        return self.project(self.images + self.eps * unit(noise.to(self.images.dtype) * 2 - 1))

    def step(self, points: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent under L2: `size` along the normalised gradient, then project."""
        return self.project(points + size * unit(gradient))

    def project(self, points: Tensor) -> Tensor:
        """A point of the ball: the difference scaled to at most eps, then clipped to [0, 1], which only shortens it."""
        difference = points - self.images
        scale = (self._radius / _length(difference)).clamp(max=1)
        return (self.images + difference * scale).clamp(0, 1)

    def select(self, index: Tensor) -> L2Ball:
        """The balls around the images `index`."""
        return L2Ball(self.images[index], self.eps)


def ball(images: Tensor, eps: float, norm: str) -> LinfBall | L2Ball:
    """The ball of radius eps around each image under `norm`, "linf" or "l2"."""
    return LinfBall(images, eps) if norm == "linf" else L2Ball(images, eps)


def widest(images: Tensor, norm: str) -> float:
    """The distance from black to white under `norm` for images (N, C, H, W): the largest useful radius."""
    return 1.0 if norm == "linf" else math.sqrt(math.prod(images.shape[1:]))


def contains(points: Tensor, images: Tensor, norm: str, eps: float) -> Tensor:
    """Whether each point (N, C, H, W) lies within `eps` of its image and in [0, 1], bool (N,)."""
    pixels = points.flatten(1)
    return (distance(points, images, norm) <= eps) & (pixels.amin(1) >= 0) & (pixels.amax(1) <= 1)


def distance(points: Tensor, images: Tensor, norm: str) -> Tensor:
    """Distance of each pair under `norm`, in double precision, shape (N,)."""
    return length((points.double() - images.double()).flatten(1), norm)


def length(moves: Tensor, norm: str) -> Tensor:
    """The length of each row of `moves` (N, D) under `norm`, shape (N,)."""
    return moves.abs().amax(1) if norm == "linf" else moves.norm(dim=1)


def unit(directions: Tensor) -> Tensor:
    """Each of a batch (N, ...) scaled to L2 length 1; 0 stays 0.

    It is divided by its largest entry first, because squares of small entries underflow and of large ones overflow.
    """
    dimensions = tuple(range(1, directions.dim()))
    largest = torch.linalg.vector_norm(directions, torch.inf, dimensions, keepdim=True)
    scaled = directions / torch.where(largest > 0, largest, 1)
    lengths: Tensor = torch.linalg.vector_norm(scaled, 2, dimensions, keepdim=True)
    return scaled / lengths.clamp(min=1)


def dual_length(normals: Tensor, norm: str) -> Tensor:
    """The dual norm of `normals` (..., D): the largest <normal, move> of a move of length 1 under `norm`; (...)."""
    if norm == "linf":
        return normals.abs().sum(-1)
    largest = normals.abs().amax(-1, keepdim=True)
    scaled: Tensor = (normals / torch.where(largest > 0, largest, 1)).norm(dim=-1)
    return scaled * largest.squeeze(-1)


def _inward(bound: Tensor, images: Tensor, eps: float) -> Tensor:
    outside = (bound.double() - images.double()).abs() > eps
    return torch.where(outside, torch.nextafter(bound, images), bound)


def _length(difference: Tensor) -> Tensor:
    lengths: Tensor = difference.flatten(1).norm(dim=1)
    return lengths.clamp(min=1e-12).reshape(-1, 1, 1, 1)
