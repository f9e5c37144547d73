"""DeepFool: the nearest linearised decision boundary, step by step (Moosavi-Dezfooli, Fawzi, Frossard 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.batching import shrink
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.noise import Generator

# Each image is repeated once a class, so a batch may shrink in smaller steps than elsewhere.
_MULTIPLE = 16


def deepfool(model: Model, images: Tensor, labels: Tensor, *, norm: str = "l2", steps: int = 50,
             overshoot: float = 0.02, classes: int = 10,
             generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their distances.

    images: float (N, C, H, W) in [0, 1]; labels: (N,). Follows the `classes` largest logits, the gradients of all of
    them at once. Returns (images of the same shape in [0, 1], distances (N,) under `norm`): 0 for images that
    are wrong already, infinite where `steps` did not suffice. Deterministic; `generator` is not used.
    """
    check(images, labels, norm=norm)
    found = images.clone()
    distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    with frozen(model):
        rows = torch.arange(len(images), device=images.device)
        points, origin, true = images.clone(), images, labels
        for step in range(steps + 1):
            logits, gradients, followed = _class_gradients(model, points, true, classes)
            fresh = (logits.argmax(1) != true) & torch.isinf(distances[rows])
            found[rows[fresh]] = points[fresh]
            distances[rows[fresh]] = distance(points[fresh], origin[fresh], norm)
            standing = torch.isinf(distances[rows])
            if step == steps or not standing.any():
                break
            move = _to_nearest_boundary(logits, gradients, followed, norm)
            points = (points + (1 + overshoot) * move).clamp(0, 1)
            if (index := shrink(standing, multiple=_MULTIPLE)) is not None:
                rows, points, origin, true = rows[index], points[index], origin[index], true[index]
    return found, distances


def _class_gradients(model: Model, points: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K); gradients (N, k, C, H, W) of the followed logits; the followed classes (N, k), true one first.

    The batch is repeated once per followed class, so that one backward pass gives all the gradients.
    """
    with torch.no_grad():
        logits = model(points)
    k = min(classes, logits.shape[1])
    others = logits.scatter(1, labels[:, None], -torch.inf).topk(k - 1).indices
    followed = torch.cat([labels[:, None], others], 1)
    with torch.enable_grad():
        repeated = points.repeat_interleave(k, 0).requires_grad_()
        picked = model(repeated).gather(1, followed.reshape(-1, 1)).sum()
        if not picked.requires_grad:
            return logits, torch.zeros(len(points), k, *points.shape[1:], device=points.device), followed
        gradients = torch.autograd.grad(picked, repeated)[0]
    return logits, gradients.reshape(len(points), k, *points.shape[1:]), followed


def _to_nearest_boundary(logits: Tensor, gradients: Tensor, followed: Tensor, norm: str) -> Tensor:
    """The shortest move that reaches the nearest linearised boundary (algorithm 2 of the paper)."""
    values = logits.gather(1, followed)
    gaps = (values[:, :1] - values[:, 1:]).clamp(min=0) + 1e-6
    normals = (gradients[:, 1:] - gradients[:, :1]).flatten(2)
    lengths = (normals.norm(dim=2) if norm == "l2" else normals.abs().sum(2)).clamp(min=1e-12)
    nearest = (gaps / lengths).argmin(1, keepdim=True)
    gap, length = gaps.gather(1, nearest), lengths.gather(1, nearest)
    normal = normals.take_along_dim(nearest[..., None], 1).squeeze(1)
    direction = normal / length if norm == "l2" else normal.sign()
    return (gap / length * direction).reshape(len(logits), *gradients.shape[2:])
