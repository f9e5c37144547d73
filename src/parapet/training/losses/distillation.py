"""Defensive distillation, which hides the gradient and defends nothing.

How far it holds: an attack whose loss does not saturate. Trained at temperature T and asked at 1, the network's logits
are about T times as large, so that its softmax and with it the gradient of cross-entropy round to 0 in float32. The
margin of the logits keeps its gradient, `pgd(..., loss="margin")` or `carlini_wagner` (Carlini and Wagner 2017,
"Towards Evaluating the Robustness of Neural Networks", section 8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parapet.training.losses.one_pass import Pieces


def softened(model: nn.Module, images: Tensor, labels: Tensor, *, temperature: float) -> tuple[Tensor, Pieces]:
    """CE(logits / temperature, labels), temperature > 0: how the teacher of Papernot et al. 2016 is trained."""
    loss = cross_entropy(model(images) / temperature, labels)
    return loss, {"clean_loss": loss.detach()}


def distillation(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
                 teacher: nn.Module, temperature: float = 20.0) -> tuple[Tensor, Pieces]:
    """-sum_k p_k(teacher) log p_k(model), both softened by `temperature` > 0, averaged over the images (N, C, H, W).

    Papernot, McDaniel, Wu, Jha and Swami 2016, section IV. The teacher, a network of the same shape in eval mode that
    was trained with `softened`, answers without a gradient. Labels and adversarial images play no part. The trained
    network is asked at temperature 1, that is, as it is.
    """
    with torch.no_grad():
        soft_labels = (teacher(images) / temperature).softmax(1)
    loss = cross_entropy(model(images) / temperature, soft_labels)
    return loss, {"distillation_loss": loss.detach()}
