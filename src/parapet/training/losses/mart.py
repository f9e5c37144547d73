"""MART: the consistency term weighs misclassified images more, and a margin term is added to cross-entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parapet.training.losses.divergence import divergence
from parapet.training.losses.one_pass import Logits, Pieces, one_pass, required

# The authors' code has log(1.0001 - p) for the paper's log(1 - p), which bounds the margin term by 9.2.
_ABOVE_ONE = 1.0001


def mart(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *, beta: float = 6.0,
         smoothing: float = 0.0, logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """BCE(adversarial) + beta mean((1 - p_y(clean)) KL(p(clean) || p(adversarial))), beta >= 0; never negative.

    Wang, Zou, Yi, Bailey, Ma and Gu 2020; BCE, their boosted cross-entropy, is -log p_y - log(1 - max_k p_k) over
    k != y. The adversarial images are those of plain PGD. `smoothing` applies to the first term of BCE only.
    """
    logits = logits or one_pass(model, clean=images, adversarial=adversarial)
    clean, attacked = required(logits.clean), required(logits.adversarial)
    boosted = cross_entropy(attacked, labels, label_smoothing=smoothing) + _margin_term(attacked, labels)
    weighted = (_others(clean, labels) * divergence(clean, attacked)).mean()
    return boosted + beta * weighted, {"boosted_loss": boosted.detach(), "weighted_divergence": weighted.detach()}


def _margin_term(logits: Tensor, labels: Tensor) -> Tensor:
    """-log(1.0001 - p of the most likely wrong class), minus its value at p = 0.

    That constant, 1e-4, has no gradient, and without it the loss could be negative. The 1e-12 that the authors add
    inside the logarithm is lost in float32 beside 1e-4.
    """
    wrong = logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1)
    return (math.log(_ABOVE_ONE) - torch.log(_ABOVE_ONE - 1 + _others(logits, wrong))).clamp(min=0).mean()


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - p of `labels` (N,), as the sum of the other probabilities: 1 - p would round to 0 for p near 1."""
    return logits.softmax(1).scatter(1, labels[:, None], 0.0).sum(1)
