"""Where between an image and its adversarial version the decision changes."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.inputs import Model


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
        fooled = (model(points).argmax(1) != labels).reshape(-1, 1, 1, 1)
        best = torch.where(fooled, points, best)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return best
