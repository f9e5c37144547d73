"""Where between an image and its adversarial version the decision changes."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, ask
from parapet.attacks.minimum_norm.projections import shortest_move
from parapet.attacks.objectives import margin

_OVERSHOOT = 1.02
# The shortest step worth taking, in pixels, and, where rounding hides on which side a point lies, as a share of the way
# that it has come.
_SHORTEST, _SHARE = 1e-6, 5e-3


@torch.no_grad()
def refine(model: Model, images: Tensor, labels: Tensor, adversarial: Tensor, *, steps: int = 10) -> Tensor:
    """Misclassified points nearer to the images, by bisection of the segments between them (N, C, H, W).

    `steps` forward passes leave at most 2**-steps of each segment too much. The end that fools the model is kept, so
    rows of `adversarial` that are classified as `labels` come back unchanged.
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
    """The gaps (n, k) >= 0 of n points to k linearised boundaries, enlarged so that a step over them is sure to cross.

    lengths (n, k): of the normals, under the dual of `norm`; logits (n, classes), as the model returned them; way (n,):
    how far each point is from its image; pixels: how many numbers an image has. A gap is known to the rounding of the
    logits, and a step to that of the pixels.
    """
    rounding = (torch.finfo(logits.dtype).eps * logits.abs().amax(1).to(gaps.dtype))[:, None]
    shortest = _SHORTEST * (pixels ** 0.5 if norm == "l2" else 1.0)
    least = torch.where(gaps <= rounding, shortest + _SHARE * way.to(gaps.dtype)[:, None], shortest)
    return torch.maximum(gaps + rounding, least * lengths)


def drop_perpendicular(model: Model, images: Tensor, labels: Tensor, adversarial: Tensor, norm: str) -> Tensor:
    """The nearer of each adversarial point and the foot of the perpendicular on the boundary as it runs there.

    The boundary is linearised at `adversarial` (N, C, H, W), the move from the image stays in [0, 1], and a foot that
    does not fool the model is not taken. One backward and a dozen forward passes; exact where the boundary is flat.
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
