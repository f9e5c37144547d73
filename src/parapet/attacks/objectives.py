"""What an attacker maximises: one function of (logits, labels) each, a value per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import kl_div

Objective = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the true label, shape (N,)."""
    return torch_cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the true one, shape (N,); positive where the image is broken.

    Carlini and Wagner 2017; unlike cross-entropy it does not saturate and does not depend on the logits' scale.
    """
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - true


def divergence_from(reference: Tensor) -> Objective:
    """KL(reference || softmax(logits)) against fixed probabilities (N, classes): the inner problem of TRADES."""
    def divergence(logits: Tensor, labels: Tensor) -> Tensor:
        return kl_div(logits.log_softmax(1), reference, reduction="none").sum(1)
    return divergence


OBJECTIVES: dict[str, Objective] = {"ce": cross_entropy, "margin": margin}
