"""Linear models, whose nearest boundary is known exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHAPE = (1, 4, 4)


class Linear(nn.Module):
    """Two logits, (w.x + b)/2 and its negative."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2)."""
        value = (images.flatten(1) @ self.weight + self.bias) / 2
        return torch.stack([value, -value], 1)

    def exact_distances(self, images: Tensor, norm: str) -> Tensor:
        """|w.x + b| over the dual norm of w, (N,)."""
        value = (images.flatten(1) @ self.weight + self.bias).abs().detach()
        return (value / self.weight.detach().norm(p=1 if norm == "linf" else 2)).double()


def far_from_the_limits(count: int = 32) -> tuple[Linear, Tensor, Tensor]:
    """(model, images, labels) whose boundary passes through mid grey: no minimal perturbation meets the box."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(16, generator=generator)
    model = Linear(weight, -0.5 * float(weight.sum()))
    images = 0.4 + 0.2 * torch.rand(count, *SHAPE, generator=generator)
    return model, images, model(images).argmax(1)


def recording(model: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """(the model, the points at which its gradient is asked for, batch after batch)."""
    seen: list[Tensor] = []

    def recorded(points: Tensor) -> Tensor:
        if points.requires_grad:
            seen.append(points.detach().clone())
        return model(points)
    return recorded, seen


class ManyClasses(nn.Module):
    """A linear model of `classes` classes with random weights over images of `shape`."""

    def __init__(self, classes: int, shape: tuple[int, int, int] = SHAPE) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        size = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(torch.randn(classes, size, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes); mid grey is undecided."""
        return (images - 0.5).flatten(1) @ self.weight.T

    def exact_distances(self, images: Tensor, labels: Tensor, norm: str) -> Tensor:
        """The distance to the nearest of all boundaries, with no regard for the box, (N,)."""
        logits = self(images).detach()
        normals = self.weight.detach()[None] - self.weight.detach()[labels][:, None]
        gaps = logits.gather(1, labels[:, None]) - logits
        lengths = normals.norm(p=1 if norm == "linf" else 2, dim=2)
        return (gaps / lengths.clamp(min=1e-12)).scatter(1, labels[:, None], torch.inf).amin(1)
