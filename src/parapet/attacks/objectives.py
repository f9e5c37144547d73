"""What an attacker maximises: one function of (logits, labels) each, a value per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import kl_div

Objective = Callable[[Tensor, Tensor], Tensor]
_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the true label, shape (N,)."""
    return torch_cross_entropy(logits, labels, reduction="none")


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of any other class against the label, log(sum_j exp z_j) - z_y over j != y, shape (N,).

    Cross-entropy is log(1 + exp(log-odds)), so that both rise in the same direction and order points alike. But where
    the model is sure, cross-entropy and its gradient round to 0 in float32, and these do not.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.logsumexp(1) - logits.gather(1, labels[:, None]).squeeze(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the true one, shape (N,); positive where the image is broken.

    Carlini and Wagner 2017; unlike cross-entropy it does not saturate and does not depend on the logits' scale.
    """
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - true


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, equation 6), shape (N,); above 0 where the image is broken.

    The margin over the distance between the largest and the third largest logit, which makes it independent of the
    logits' shift and scale. With two classes there is no third, and the margin itself is returned.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(targets: Tensor) -> Objective:
    """Targeted DLR towards the classes `targets` (N,) (Croce and Hein 2020, equation 7).

    With fewer than four classes the plain difference of the two logits is returned.
    """
    def ratio(logits: Tensor, labels: Tensor) -> Tensor:
        difference = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)
        if logits.shape[1] < 4:
            return difference
        top = logits.topk(4, dim=1).values
        return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)
    return ratio


def divergence_from(reference: Tensor) -> Objective:
    """KL(reference || softmax(logits)) against fixed probabilities (N, classes): the inner problem of TRADES."""
    def divergence(logits: Tensor, labels: Tensor) -> Tensor:
        return kl_div(logits.log_softmax(1), reference, reduction="none").sum(1)
    return divergence


# "ce" is cross-entropy as an attack can use it: see `log_odds`.
OBJECTIVES: dict[str, Objective] = {"ce": log_odds, "margin": margin, "dlr": dlr}
