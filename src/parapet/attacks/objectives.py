"""The objectives that attacks maximise: functions of (logits (N, classes), labels (N,)) with a value per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import kl_div

Objective = Callable[[Tensor, Tensor], Tensor]
# Keeps a ratio of differences finite where the largest logits are tied: the rounding of float32, as a share of the
# range of the logits.
_SHARE = 2**-23


def precise(logits: Tensor) -> Tensor:
    """The logits in at least float32, because differences in half precision lose too many digits."""
    return logits.float() if torch.finfo(logits.dtype).bits < 32 else logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the true label, shape (N,)."""
    return torch_cross_entropy(precise(logits), labels, reduction="none")


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of another class against the label, log(mean_j exp(z_j - z_y)) over the K - 1 classes j != y, (N,).

    Cross-entropy is log(1 + (K - 1) exp(log-odds)), so that both increase in the same direction and rank points alike.
    But where the model is certain, cross-entropy and its gradient round to 0 in float32, and the log-odds do not; nor
    do they where the logits are small, or all far from 0.
    """
    logits = precise(logits)
    over = logits - logits.gather(1, labels[:, None])
    largest = over.detach().scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    below = (over - largest).scatter(1, labels[:, None], 0.0)  # so that the term of the label itself is expm1(0) = 0
    return largest.squeeze(1) + torch.log1p(torch.expm1(below).sum(1) / (logits.shape[1] - 1))


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus that of the label, shape (N,); positive where the image is misclassified.

    Carlini and Wagner 2017; unlike cross-entropy it does not saturate and does not depend on the logits' scale.
    """
    logits = precise(logits)
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - true


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, equation 6), shape (N,); positive where misclassified.

    The margin over the distance between the largest and the third largest logit, which makes it independent of the
    logits' shift and scale. With two classes there is no third, and the margin itself is returned.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    logits = precise(logits)
    top = logits.topk(3, dim=1).values
    return _ratio(margin(logits, labels), top[:, 0] - top[:, 2], logits)


def targeted_dlr(targets: Tensor) -> Objective:
    """Targeted DLR towards the classes `targets` (N,) (Croce and Hein 2020, equation 7).

    With fewer than four classes the plain difference of the two logits is returned.
    """
    def ratio(logits: Tensor, labels: Tensor) -> Tensor:
        logits = precise(logits)
        difference = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)
        if logits.shape[1] < 4:
            return difference
        top = logits.topk(4, dim=1).values
        return _ratio(difference, top[:, 0] - (top[:, 2] / 2 + top[:, 3] / 2), logits)
    return ratio


def _ratio(difference: Tensor, spread: Tensor, logits: Tensor) -> Tensor:
    """difference / spread for logits of any scale and shift; spread >= 0, and 0 where the largest logits are tied."""
    known = logits.detach()
    spread = spread + _SHARE * (known.amax(1) - known.amin(1))
    return difference / torch.where(spread > 0, spread, 1)


def divergence_from(reference: Tensor) -> Objective:
    """KL(reference || softmax(logits)) against fixed probabilities (N, classes): the inner problem of TRADES."""
    def divergence(logits: Tensor, labels: Tensor) -> Tensor:
        return kl_div(precise(logits).log_softmax(1), reference, reduction="none").sum(1)
    return divergence


# "ce" is the log-odds, a numerically better form of cross-entropy.
OBJECTIVES: dict[str, Objective] = {"ce": log_odds, "margin": margin, "dlr": dlr}
