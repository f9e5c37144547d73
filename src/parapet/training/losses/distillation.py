"""Defensive distillation, which masks the gradient and does not make a network robust.

An attack whose loss does not saturate breaks it. Training at temperature T makes the logits about T times as large; at
temperature 1 the softmax then saturates, and the gradient of cross-entropy rounds to 0 in float32. The margin of the
logits keeps its gradient: `pgd(..., loss="margin")` or `carlini_wagner` (Carlini and Wagner 2017,
"Towards Evaluating the Robustness of Neural Networks", section 8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parapet.attacks.objectives import precise
from parapet.training.losses.one_pass import Logits, Pieces, one_pass, required


def softened(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
             temperature: float, smoothing: float = 0.0, logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """temperature * CE(logits / temperature, labels), temperature > 0: the loss of the teacher of Papernot et al. 2016.

    The leading factor does not change the minimum; without it the gradient would be `temperature` times smaller than
    that of other losses, and the same learning rates would be too small (Hinton et al. 2015, section 2, multiply soft
    targets' gradients by its square for this reason). `smoothing`
    in [0, 1) is label smoothing; adversarial images are ignored.
    """
    logits = logits or one_pass(model, clean=images)
    loss = temperature * cross_entropy(required(logits.clean) / temperature, labels, label_smoothing=smoothing)
    return loss, {"clean_loss": loss.detach()}


def distillation(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
                 teacher: nn.Module, temperature: float = 20.0, smoothing: float = 0.0,
                 logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """-temperature sum_k p_k(teacher) log p_k(model), both softened by `temperature` > 0; mean of images (N, C, H, W).

    Papernot, McDaniel, Wu, Jha and Swami 2016, section IV; the leading factor is that of `softened`. The teacher is a
    network of the same shape, trained with `softened`, in eval mode; it gets no gradient. Labels, their smoothing and
    adversarial images are ignored. The trained network is evaluated at temperature 1, that is, unchanged.
    """
    logits = logits or one_pass(model, clean=images)
    with torch.no_grad():
        soft_labels = (precise(teacher(images)) / temperature).softmax(1)
    loss = temperature * cross_entropy(required(logits.clean) / temperature, soft_labels)
    return loss, {"distillation_loss": loss.detach()}
