"""Adversarial logit pairing: draws the logits of an image and of its adversarial version together."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from parapet.training.losses.one_pass import Logits, Pieces, one_pass, required


def adversarial_logit_pairing(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, *,
                              pairing: float = 0.5, smoothing: float = 0.0,
                              logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """(CE(clean) + CE(adversarial)) / 2 + pairing * mean squared difference of the paired logits, pairing >= 0.

    Kannan, Kurakin and Goodfellow 2018, with their mixed-minibatch PGD. The mean is over images and classes. PGD with
    hundreds of steps and several restarts breaks it (Engstrom, Ilyas and Athalye 2018 leave 0.6 % of ImageNet correct),
    because pairing makes the loss surface bumpy rather than flat; it is a baseline.
    """
    logits = logits or one_pass(model, clean=images, adversarial=adversarial)
    clean = cross_entropy(required(logits.clean), labels, label_smoothing=smoothing)
    robust = cross_entropy(required(logits.adversarial), labels, label_smoothing=smoothing)
    distance = mse_loss(required(logits.clean), required(logits.adversarial))
    loss = (clean + robust) / 2 + pairing * distance
    return loss, {"clean_loss": clean.detach(), "adversarial_loss": robust.detach(), "pair_distance": distance.detach()}
