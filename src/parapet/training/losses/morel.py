"""MOREL: similar features for an image and its adversarial version, and for all images of a class.

Hotegni and Peitz 2025. Their conic scalarisation with the reference point 0 is a weighted sum with TRADES or MART, as
long as no loss is negative: `TrainingLoss` with the weights `morel` and `morel_alpha`. Their augmentation term, 2e-5
more of either loss, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from parapet.attacks.objectives import precise
from parapet.training.losses.one_pass import Pieces
from parapet.training.morel import MorelHead


def embedding_loss(head: MorelHead, clean: Tensor, adversarial: Tensor, labels: Tensor, *,
                   alpha: float = 1e-5) -> tuple[Tensor, Pieces]:
    """L_cos + alpha L_contrastive of the features (N, F) of the clean and the adversarial images.

    As in the authors' code L_cos compares the embeddings before attention, and L_contrastive those after it: of clean
    and adversarial images together, where the code uses the clean ones only.
    """
    embedded, attended = head(torch.stack([clean, adversarial]), labels)
    cosine = cosine_loss(*embedded)
    contrastive = multi_positive_contrastive(attended.flatten(0, 1), labels.repeat(2))
    return cosine + alpha * contrastive, {"cosine_loss": cosine.detach(), "contrastive_loss": contrastive.detach()}


def cosine_loss(clean: Tensor, adversarial: Tensor) -> Tensor:
    """1 - mean cosine of the paired embeddings (N, D), in [0, 2]."""
    return (1 - cosine_similarity(precise(clean), precise(adversarial))).mean().clamp(0, 2)


def multi_positive_contrastive(embeddings: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of the softmax of cosines / temperature with the uniform distribution over the others of a class.

    Tian et al. 2023 (StableRep); embeddings (M, D), labels (M,), temperature > 0. The average is over all M; an
    embedding without others in its class counts 0. At least 0, and independent of the order of the batch.
    """
    # In float32 even where the network computed in bfloat16: a small temperature magnifies rounding errors of cosines.
    unit = normalize(precise(embeddings), dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = ((labels[:, None] == labels) & ~itself).to(unit)
    # Not infinity: a batch of one image would have no finite entry.
    with torch.autocast(unit.device.type, enabled=False):
        likeness = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(unit.dtype).min)
    share = positive / positive.sum(1, keepdim=True).clamp(min=1)
    return -(share * likeness.log_softmax(1)).sum(1).mean()
