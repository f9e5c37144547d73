"""The decision boundary between an image and its adversarial version."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, ask
from parapet.attacks.minimum_norm.projections import shortest_move
from parapet.attacks.objectives import margin

_OVERSHOOT = 1.02
# The shortest useful step: per pixel, and, where rounding hides on which side a point lies, as a share of its distance
# from the image.
_SHORTEST, _SHARE = 1e-6, 5e-3


@torch.no_grad()
def refine(model: Model, images: Tensor, labels: Tensor, adversarial: Tensor, *, steps: int = 10) -> Tensor:
    """Misclassified points nearer to the images, by bisection of the segments to `adversarial`; (N, C, H, W).

    After `steps` forward passes a point lies at most 2**-steps of its segment beyond the boundary. Rows of
    `adversarial` that are classified as `labels` are returned unchanged.
    """
    low = torch.zeros(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
    high, best = torch.ones_like(low), adversarial
    for _ in range(steps):
        middle = (low + high) / 2
        points = torch.lerp(images, adversarial, middle)
        fooled = (ask(model, points).argmax(1) != labels).reshape(-1, 1, 1, 1)
        best = torch.where(fooled, points, best)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return best


def crossing(gaps: Tensor, lengths: Tensor, logits: Tensor, way: Tensor, pixels: int, norm: str) -> Tensor:
    """The gaps (n, k) >= 0 of n points to k linearised boundaries, enlarged so that a step over a gap crosses it.

    lengths (n, k): of the normals, under the dual of `norm`; logits (n, classes), as the model returned them; way (n,):
    the distance of each point from its image; pixels: how many values an image has. The enlargement covers the rounding
    of the logits, from which a gap is computed, and that of the pixels, which limits a step.
    """
    rounding = (torch.finfo(logits.dtype).eps * logits.abs().amax(1).to(gaps.dtype))[:, None]
    shortest = _SHORTEST * (pixels ** 0.5 if norm == "l2" else 1.0)
    least = torch.where(gaps <= rounding, shortest + _SHARE * way.to(gaps.dtype)[:, None], shortest)
    return torch.maximum(gaps + rounding, least * lengths)


def drop_perpendicular(model: Model, images: Tensor, labels: Tensor, adversarial: Tensor, norm: str) -> Tensor:
    """The nearer of each adversarial point and the foot of the perpendicular from the image to the boundary there.

    The boundary is linearised at `adversarial` (N, C, H, W), and the foot lies in [0, 1]; it is used only if it fools
    the model. Takes one backward and a dozen forward passes; exact if the boundary is flat.
    """
    _, values, normals = input_gradient(model, adversarial, labels, margin)
    normals, offset = normals.flatten(1), (adversarial - images).flatten(1)
    moves = shortest_move(images.flatten(1), normals, (normals * offset).sum(1) - values, norm)
    foot = (images + _OVERSHOOT * moves.reshape(images.shape)).clamp(0, 1)
    foot = refine(model, images, labels, foot)
    with torch.no_grad():
        fooled = ask(model, foot).argmax(1) != labels
    nearer = fooled & (distance(foot, images, norm) < distance(adversarial, images, norm))
    return torch.where(nearer.reshape(-1, 1, 1, 1), foot, adversarial)
