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


def class_gradients(model: Model, images: Tensor, labels: Tensor,
                    classes: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(logits (N, K), differences (N, k), their gradients (N, k, C, H, W)).

    A difference is another class's logit less the label's. The k classes are the `classes` largest other logits, by
    default all. One forward pass and k backward passes: repeating the batch k times would repeat the forward pass.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = model(points)
        count = min(classes or logits.shape[1], logits.shape[1] - 1)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices
        differences = logits.gather(1, others) - logits.gather(1, labels[:, None])
        if not differences.requires_grad:
            return logits, differences, torch.zeros(len(images), count, *images.shape[1:], device=images.device)
        gradients = [torch.autograd.grad(differences[:, place].sum(), points, retain_graph=place + 1 < count,
                                         allow_unused=True)[0] for place in range(count)]
    if gradients[0] is None:
        return logits.detach(), differences.detach(), torch.zeros(len(images), count, *images.shape[1:],
                                                                  device=images.device)
    return logits.detach(), differences.detach(), torch.stack(gradients, 1)
