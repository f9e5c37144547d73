"""DeepFool: the nearest linearised decision boundary, step by step (Moosavi-Dezfooli, Fawzi, Frossard 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import distance, dual_length, unit
from parapet.attacks.batching import shrink
from parapet.attacks.gradients import class_gradients
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.minimum_norm.boundary import crossing, refine
from parapet.attacks.noise import Generator
from parapet.errors import InputError

# A step costs a backward pass per class, so the batch shrinks at every step and in smaller multiples than elsewhere.
_MULTIPLE = 8


def deepfool(model: Model, images: Tensor, labels: Tensor, *, norm: str = "l2", steps: int = 50,
             overshoot: float = 0.02, classes: int = 10,
             generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their distances.

    images: float (N, C, H, W) in [0, 1]; labels: (N,). Each step goes to the nearest linearised boundary between the
    label and one of the other `classes` - 1 largest logits, and beyond it by the share `overshoot`. The first
    misclassified point is moved back to the boundary by bisection, which removes the overshoot. Returns (images of the
    same shape in [0, 1], distances (N,) under `norm`): 0 for images that are misclassified already, infinite where
    `steps` did not suffice. Deterministic; `generator` is not used.
    """
    check(images, labels, norm=norm)
    if steps < 1 or classes < 2 or not 0 <= overshoot < 1:
        raise InputError(f"deepfool got steps={steps}, classes={classes}, overshoot={overshoot:g}; steps must be at "
                         "least 1, classes at least 2, overshoot in [0, 1).")
    found = images.clone()
    fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    with frozen(model):
        rows = torch.arange(len(images), device=images.device)
        points, origins, true, stands = images, images, labels, ~fooled
        for step in range(steps + 1):
            logits, differences, normals = class_gradients(model, points, true, classes - 1)
            stands = stands & (logits.argmax(1) == true)
            if (index := shrink(stands, multiple=_MULTIPLE)) is not None:
                found[rows], fooled[rows] = points, ~stands
                rows, points, origins, true, stands = (
                    part[index] for part in (rows, points, origins, true, stands))
                logits, differences, normals = logits[index], differences[index], normals[index]
            if step == steps or len(rows) == 0:
                break
            way = distance(points, origins, norm)
            move = (1 + overshoot) * _to_nearest_boundary(logits, differences, normals, way, norm)
            points = torch.where(stands.reshape(-1, 1, 1, 1), (points + move).clamp(0, 1), points)
        found[rows], fooled[rows] = points, ~stands
        found = torch.where(fooled.reshape(-1, 1, 1, 1), refine(model, images, labels, found), images)
    return found, torch.where(fooled, distance(found, images, norm), torch.inf)


def _to_nearest_boundary(logits: Tensor, differences: Tensor, normals: Tensor, way: Tensor, norm: str) -> Tensor:
    """The shortest move to the nearest linearised boundary (algorithm 2 of the paper); 0 if all gradients vanish.

    logits (N, classes); differences: another logit minus that of the label, (N, k); normals: their gradients
    (N, k, C, H, W); way (N,): the distance of the points from their images.
    """
    flat = normals.flatten(2)
    lengths = dual_length(flat, norm)
    reaches = crossing((-differences).clamp(min=0), lengths, logits, way, flat.shape[2], norm) / lengths
    reaches = torch.where(lengths > 0, reaches, torch.inf)
    reach, nearest = reaches.min(1, keepdim=True)
    normal = flat.take_along_dim(nearest[..., None], 1).squeeze(1)
    direction = unit(normal) if norm == "l2" else normal.sign()
    return (torch.where(reach < torch.inf, reach, 0) * direction).reshape(len(normals), *normals.shape[2:])
