"""Gradients with respect to the images, which every white-box attack uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parapet.attacks.inputs import Model, ask
from parapet.attacks.objectives import Objective, precise
from parapet.errors import InputError


def input_gradient(model: Model, images: Tensor, labels: Tensor,
                   objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """(logits, objective per image, its gradient with respect to the images), from one forward and one backward pass.

    The gradient is zero if the objective does not depend on the images.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = ask(model, points)
        values = objective(logits, labels)
        if not values.requires_grad:
            return logits.detach(), values.detach(), torch.zeros_like(images)
        gradient = slope(values.sum(), points)
    return logits.detach(), values.detach(), torch.zeros_like(images) if gradient is None else gradient


def class_gradients(model: Model, images: Tensor, labels: Tensor,
                    classes: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(logits (N, K), differences (N, k), their gradients (N, k, C, H, W)).

    A difference is the logit of another class minus that of the label, for the k = `classes` largest other logits, by
    default all. It takes one forward and k backward passes.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = ask(model, points)
        count = min(classes or logits.shape[1], logits.shape[1] - 1)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices
        differences = precise(logits).gather(1, others) - precise(logits).gather(1, labels[:, None])
        found = [slope(differences[:, place].sum(), points, retain_graph=place + 1 < count)
                 for place in range(count)] if differences.requires_grad else []
    # All of them are None or none is: they are columns of one tensor.
    gradients = [gradient for gradient in found if gradient is not None]
    return logits.detach(), differences.detach(), \
        torch.stack(gradients, 1) if gradients else images.new_zeros(len(images), count, *images.shape[1:])


def slope(value: Tensor, points: Tensor, **options: Any) -> Tensor | None:
    """The gradient of the scalar `value` with respect to `points`, None if it does not depend on them.

    Raises InputError if the model has overwritten in place what its own gradient needs; torch's other errors pass.
    """
    try:
        return torch.autograd.grad(value, points, allow_unused=True, **options)[0]
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise InputError("the model has no gradient: one of its operations in place, such as x.mul_(2) after "
                         "x = x.sigmoid(), overwrites what autograd keeps; write a new tensor there.") from error
