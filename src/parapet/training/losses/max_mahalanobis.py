"""The Max-Mahalanobis centre loss: draws features to fixed centres that are as far apart as possible.

An attack that knows the centres breaks it. Cross-entropy of the distances saturates, because they are large;
`centre_margin` does not, and is above 0 exactly where the nearest centre is a wrong one. Give it to `pgd` as its loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parapet.attacks.objectives import Objective as AttackLoss
from parapet.attacks.objectives import margin, precise
from parapet.errors import InputError
from parapet.training.losses.one_pass import Logits, Pieces, required

# Squared norms of float32 centres whose relative difference is smaller are equal.
_EQUAL = 1e-6


def centres(classes: int, features: int, scale: float = 10.0) -> Tensor:
    """Centres (classes, features) of norm `scale` > 0 and of pairwise cosine -1 / (classes - 1).

    Pang, Xu, Dong, Du, Chen and Zhu 2020, algorithm 1; needs features >= classes - 1 and classes >= 2.
    """
    if classes < 2 or features < classes - 1:
        raise InputError(f"{classes} Max-Mahalanobis centres in {features} dimensions were asked for; "
                         "there must be at least 2, and at least one dimension less than centres.")
    means = torch.zeros(classes, max(features, classes), dtype=torch.float64)
    means[0, 0] = 1
    for i in range(1, classes):
        for j in range(i):
            means[i, j] = -(1 / (classes - 1) + means[i] @ means[j]) / means[j, j]
        # The last centre lies in the span of the others: the rest of its length is a rounding error.
        means[i, i] = (1 - means[i].square().sum()).clamp(min=0).sqrt() if i < classes - 1 else 0
    return (scale * means[:, :features]).float()


def logit_centres(classes: int, scale: float = 10.0) -> Tensor:
    """The same simplex (classes, classes), rotated so that the nearest centre is that of the largest output.

    Our networks end in a linear layer with one output per class. With these centres the argmax of such a network is the
    class of the nearest centre, so that it is deployed without a wrapper.
    """
    if classes < 2:
        raise InputError(f"{classes} Max-Mahalanobis centres were asked for; there must be at least 2.")
    corners = torch.eye(classes, dtype=torch.float64) - 1 / classes
    centres: Tensor = scale * corners * (classes / (classes - 1)) ** 0.5
    return centres.float()


def max_mahalanobis(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
                    centres: Tensor | None = None, smoothing: float = 0.0,
                    logits: Logits | None = None) -> tuple[Tensor, Pieces]:
    """1/2 |z - centre of the label|^2, averaged over the images (Pang et al. 2020, the MMC loss).

    z are the model's outputs (N, D) for the adversarial images where they are given, else for the clean ones;
    `centres` (classes, D) are by default `logit_centres`, for a model with one output per class. Label smoothing
    is ignored.
    """
    if logits is None:
        outputs = precise(model(images if adversarial is None else adversarial))
    else:
        outputs = required(logits.clean if adversarial is None else logits.adversarial)
    centres = logit_centres(outputs.shape[1]) if centres is None else centres
    loss = (outputs - centres.to(outputs)[labels]).square().sum(1).mean() / 2
    return loss, {"centre_loss": loss.detach()}


def centre_logits(outputs: Tensor, centres: Tensor) -> Tensor:
    """-|z - centre|^2 for each class, (N, classes), from outputs (N, D): the logits of the nearest centre."""
    return -(outputs[:, None] - centres.to(outputs)).square().sum(2)


def centre_margin(centres: Tensor) -> AttackLoss:
    """A loss for attacks, of outputs (N, D): how much nearer the nearest wrong centre is than the label's, (N,).

    The adaptive attacks of Pang et al. 2020 maximise the distances themselves. As the centres have equal norms, this is
    linear in the outputs between two centres and never saturates. |z|^2, which all distances contain, is left out: for
    large outputs the differences would be lost in rounding.
    """
    norms = centres.double().square().sum(1)
    norms = norms - norms[0]
    # Rounding errors of equal norms must not outweigh small outputs.
    norms = torch.where(norms.abs() > _EQUAL * centres.double().square().sum(1), norms, 0)

    def nearer(outputs: Tensor, labels: Tensor) -> Tensor:
        outputs = precise(outputs)
        return margin(2 * outputs @ centres.to(outputs).T - norms.to(outputs), labels)
    return nearer
