"""The training losses: the genes of their weights, whether they train on attacks, what can be combined with them.

The functions are in `parapet.training.losses`, each with the paper that it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from parapet.catalogue.spec import Catalogue


@dataclass(frozen=True)
class Weight:
    """A weight of a loss: its name in the loss's signature, its gene, and its default, which its paper recommends.

    `below_one` is for a weight w that is used together with 1 - w.
    `above_zero` is for divisors.
    """

    name: str
    gene: str
    recommended: float
    below_one: bool = False
    above_zero: bool = False

    @property
    def words(self) -> str:
        """Its name in messages."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Loss:
    """A training loss.

    function: "module:function" of (model, images, labels, adversarial, *, smoothing, logits, **weights).
    attacked: whether it trains on adversarial images; a network trained without them is not robust.
    clean_weight: name of the weight of the clean images; at 0 they are not used. None where they are always used.
    smoothable: whether label smoothing has an effect; distillation uses no labels, and Max-Mahalanobis uses centres.
    joins_morel: whether MOREL can be added to it (Hotegni and Peitz 2025 add it to TRADES and MART).
    teacher: name of the loss that its teacher is trained with, before it; None without a teacher.
    crafted_on_divergence: whether its adversarial images maximise the KL divergence from the clean prediction, and not
    cross-entropy.
    """

    name: str
    function: str
    weights: tuple[Weight, ...] = ()
    attacked: bool = True
    clean_weight: str | None = None
    smoothable: bool = True
    joins_morel: bool = False
    teacher: str | None = None
    crafted_on_divergence: bool = False

    @property
    def recommended(self) -> dict[str, float]:
        """The weights with the values that the paper recommends."""
        return {weight.name: weight.recommended for weight in self.weights}

    @property
    def genes(self) -> dict[str, str]:
        """The gene of each weight."""
        return {weight.name: weight.gene for weight in self.weights}


_BETA = Weight("beta", "trades_beta", 6.0)
_TEMPERATURE = Weight("temperature", "temperature", 20.0, above_zero=True)
_PACKAGE = "parapet.training.losses"

LOSSES: Catalogue[Loss] = Catalogue("a loss", (
    Loss("pgd", f"{_PACKAGE}.cross_entropies:pgd_training",
         (Weight("clean_share", "clean_share", 0.0, below_one=True),), clean_weight="clean_share"),
    Loss("trades", f"{_PACKAGE}.trades:trades", (_BETA,), joins_morel=True, crafted_on_divergence=True),
    Loss("mart", f"{_PACKAGE}.mart:mart", (_BETA,), joins_morel=True),
    Loss("alp", f"{_PACKAGE}.logit_pairing:adversarial_logit_pairing", (Weight("pairing", "pairing", 0.5),)),
    Loss("standard", f"{_PACKAGE}.cross_entropies:standard", attacked=False),
    Loss("softened", f"{_PACKAGE}.distillation:softened", (_TEMPERATURE,), attacked=False),
    Loss("distillation", f"{_PACKAGE}.distillation:distillation", (_TEMPERATURE,), attacked=False, smoothable=False,
         teacher="softened"),
    Loss("max_mahalanobis", f"{_PACKAGE}.max_mahalanobis:max_mahalanobis", attacked=False, smoothable=False),
))

# MOREL's share of the loss, the second entry of the paper's preference vector (0.1 there; 0 leaves MOREL out), and the
# weight of its contrastive loss.
MOREL_WEIGHTS = (Weight("morel", "morel", 0.0, below_one=True), Weight("morel_alpha", "morel_alpha", 1e-5))
