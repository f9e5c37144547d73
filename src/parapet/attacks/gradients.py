"""Gradients with respect to the images: what every white-box attack asks of a model."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.inputs import Model
from parapet.attacks.objectives import Objective


def input_gradient(model: Model, images: Tensor, labels: Tensor,
                   objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """(logits, objective per image, its gradient with respect to the images), from one forward and one backward pass.

    The gradient is zero where nothing depends on the images.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = model(points)
        values = objective(logits, labels)
        if not values.requires_grad:
            return logits.detach(), values.detach(), torch.zeros_like(images)
        gradient = torch.autograd.grad(values.sum(), points, allow_unused=True)[0]
    return logits.detach(), values.detach(), torch.zeros_like(images) if gradient is None else gradient
