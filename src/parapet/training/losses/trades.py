"""TRADES: cross-entropy of the clean images and the divergence of the adversarial predictions from the clean ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parapet.training.losses.divergence import divergence
from parapet.training.losses.one_pass import Logits, Pieces, one_pass, required


def trades(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *, beta: float,
           smoothing: float = 0.0, logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """CE(clean) + beta KL(p(clean) || p(adversarial)), beta >= 0 (Zhang et al. 2019, equation 5; their 1/lambda)."""
    logits = logits or one_pass(model, clean=images, adversarial=adversarial)
    clean = cross_entropy(required(logits.clean), labels, label_smoothing=smoothing)
    consistency = divergence(required(logits.clean), required(logits.adversarial)).mean()
    return clean + beta * consistency, {"clean_loss": clean.detach(), "divergence": consistency.detach()}
