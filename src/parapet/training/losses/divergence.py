"""The KL divergence between two predictions, with a gradient through both."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import kl_div


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p(clean) || p(adversarial)) of logits (N, classes), shape (N,), never negative.

    Computed from log-probabilities on both sides: where p rounds to 0, the derivative of p log p would not be finite.
    """
    each = kl_div(adversarial.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True)
    # Rounding can put the divergence of two nearly equal distributions below 0.
    return each.sum(1).clamp(min=0)
