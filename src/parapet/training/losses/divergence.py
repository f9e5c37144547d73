"""How far one answer strays from another, with a gradient through both."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import kl_div


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p(clean) || p(adversarial)) of logits (N, classes), shape (N,), never negative.

    Of logarithms on both sides: p log p has a value where p rounds to 0, and its derivative log p + 1 has none.
    """
    each = kl_div(adversarial.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True)
    # Rounding can put the divergence of two nearly equal distributions below 0.
    return each.sum(1).clamp(min=0)
