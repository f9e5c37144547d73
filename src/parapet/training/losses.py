"""Training losses, one function each: (model, images, labels, adversarial images, weights) to a scalar and its pieces.

Clean and adversarial images pass through the network as one batch, so that the statistics of batch norm in
evaluation are those it was trained with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

Pieces = dict[str, Tensor]


def standard(model: nn.Module, images: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> tuple[Tensor, Pieces]:
    """Cross-entropy of the clean images (N, C, H, W)."""
    loss = cross_entropy(model(images), labels, label_smoothing=smoothing)
    return loss, {"clean_loss": loss.detach()}


def pgd_training(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *, clean_share: float = 0.0,
                 smoothing: float = 0.0) -> tuple[Tensor, Pieces]:
    """(1 - clean_share) CE(adversarial) + clean_share CE(clean), clean_share in [0, 1).

    Madry et al. 2018, equation 2.1, at clean_share 0; the mixture is Goodfellow et al. 2015, section 6.
    """
    if clean_share == 0:
        loss = cross_entropy(model(adversarial), labels, label_smoothing=smoothing)
        return loss, {"adversarial_loss": loss.detach()}
    clean_logits, adversarial_logits = model(torch.cat([images, adversarial])).chunk(2)
    clean = cross_entropy(clean_logits, labels, label_smoothing=smoothing)
    robust = cross_entropy(adversarial_logits, labels, label_smoothing=smoothing)
    loss = (1 - clean_share) * robust + clean_share * clean
    return loss, {"clean_loss": clean.detach(), "adversarial_loss": robust.detach()}


def trades(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *, beta: float,
           smoothing: float = 0.0) -> tuple[Tensor, Pieces]:
    """CE(clean) + beta KL(p(clean) || p(adversarial)), beta >= 0 (Zhang et al. 2019, equation 5; their 1/lambda)."""
    clean_logits, adversarial_logits = model(torch.cat([images, adversarial])).chunk(2)
    clean = cross_entropy(clean_logits, labels, label_smoothing=smoothing)
    divergence = kl_div(adversarial_logits.log_softmax(1), clean_logits.softmax(1), reduction="batchmean")
    return clean + beta * divergence, {"clean_loss": clean.detach(), "divergence": divergence.detach()}
