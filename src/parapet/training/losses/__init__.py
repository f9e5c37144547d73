"""Training losses, one function each: (model, images, labels, adversarial images, weights) to a scalar and its pieces.

Clean and adversarial images pass through the network as one batch, so that the statistics of batch norm in
evaluation are those it was trained with. Each loss also takes the logits of an earlier pass.
"""

from __future__ import annotations

from parapet.training.losses.cross_entropies import pgd_training, standard
from parapet.training.losses.distillation import distillation, softened
from parapet.training.losses.ensemble import ensemble_images
from parapet.training.losses.logit_pairing import adversarial_logit_pairing
from parapet.training.losses.mart import mart
from parapet.training.losses.max_mahalanobis import centre_logits, centre_margin, logit_centres, max_mahalanobis
from parapet.training.losses.morel import embedding_loss
from parapet.training.losses.one_pass import Logits, Pieces, one_pass
from parapet.training.losses.trades import trades

__all__ = ["Logits", "Pieces", "adversarial_logit_pairing", "centre_logits", "centre_margin", "distillation",
           "embedding_loss", "ensemble_images", "logit_centres", "mart", "max_mahalanobis", "one_pass",
           "pgd_training", "softened", "standard", "trades"]
