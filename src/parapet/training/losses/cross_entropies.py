"""Standard training and PGD adversarial training: cross-entropy of the clean images, the adversarial ones, or both."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parapet.training.losses.one_pass import Logits, Pieces, one_pass, required


def standard(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
             smoothing: float = 0.0, logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """Cross-entropy of the clean images (N, C, H, W); adversarial images are ignored.

    `smoothing` in [0, 1) is label smoothing (Szegedy et al. 2016, section 7). On a network trained without attacks it
    only misleads attacks that maximise cross-entropy: measure with a margin loss.
    """
    logits = logits or one_pass(model, clean=images)
    loss = cross_entropy(required(logits.clean), labels, label_smoothing=smoothing)
    return loss, {"clean_loss": loss.detach()}


def pgd_training(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *, clean_share: float = 0.0,
                 smoothing: float = 0.0, logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """(1 - clean_share) CE(adversarial) + clean_share CE(clean), clean_share in [0, 1).

    Madry et al. 2018, equation 2.1, at clean_share 0; the mixture is Goodfellow et al. 2015, section 6.
    """
    if clean_share == 0:
        logits = logits or one_pass(model, adversarial=adversarial)
        loss = cross_entropy(required(logits.adversarial), labels, label_smoothing=smoothing)
        return loss, {"adversarial_loss": loss.detach()}
    logits = logits or one_pass(model, clean=images, adversarial=adversarial)
    clean = cross_entropy(required(logits.clean), labels, label_smoothing=smoothing)
    robust = cross_entropy(required(logits.adversarial), labels, label_smoothing=smoothing)
    loss = (1 - clean_share) * robust + clean_share * clean
    return loss, {"clean_loss": clean.detach(), "adversarial_loss": robust.detach()}
