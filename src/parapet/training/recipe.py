"""What the training loop does, from a genome and the training section of params.yaml: loss, attack, perturbation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.losses import LOSSES, MOREL_WEIGHTS
from parapet.config import TrainingConfig
from parapet.genome import Genome
from parapet.training.adaptation import DefenceParameters
from parapet.training.crafting import Crafting
from parapet.training.training_loss import TrainingLoss


@dataclass(frozen=True)
class Recipe:
    """The loss and the attack of every step of one epoch.

    crafting: None for training without attacks. weight_perturbation: gamma of adversarial weight perturbation, 0 for
    none. eps_ratio: the training radius divided by the threat model's.
    """

    loss: TrainingLoss
    crafting: Crafting | None
    weight_perturbation: float
    eps_ratio: float

    @classmethod
    def of(cls, genome: Genome, config: TrainingConfig) -> Recipe:
        """The recipe genes of `genome`; label smoothing is the gene's where it is above 0, else the configuration's."""
        loss = LOSSES[genome.loss]
        weights = {weight.name: genome[weight.gene]
                   for weight in (*loss.weights, *(MOREL_WEIGHTS if loss.joins_morel else ()))}
        training_loss = TrainingLoss(genome.loss, weights, {name: genome[name] for name in REGULARISERS},
                              genome.label_smoothing or config.label_smoothing)
        crafting = None if not loss.attacked else Crafting(genome.crafting, genome.steps,
                                                           divergence=loss.crafted_on_divergence)
        return cls(training_loss, crafting, genome.weight_perturbation, genome.eps_ratio)

    def adapted(self, defence: DefenceParameters) -> Recipe:
        """The recipe of an epoch, with the attack steps, the radius and the regularisers that `defence` asks for."""
        crafting = self.crafting
        if crafting is not None and defence.extra_steps:
            crafting = replace(crafting, kind="pgd", steps=crafting.passes + defence.extra_steps)
        weights = {name: weight * defence.regulariser_factor for name, weight in self.loss.regularisers.items()}
        return replace(self, crafting=crafting, eps_ratio=self.eps_ratio * defence.radius_factor,
                       loss=replace(self.loss, regularisers=weights))

    def metrics(self) -> dict[str, float]:
        """What is logged of an epoch beside its losses: attack steps and each regulariser's weight."""
        weights = {f"{name}_weight": weight for name, weight in self.loss.regularisers.items() if weight > 0}
        return {"training_steps": float(self.crafting.passes if self.crafting else 0), **weights}

    def flops(self, forward: int) -> int:
        """FLOPs of one training step per image, from those of a forward pass.

        A forward pass counts 1, the gradient by the image 1, and the gradient by the weights 1 more.
        """
        attack = 0 if self.crafting is None else 2 * self.crafting.passes + (
            self.crafting.divergence and self.crafting.kind != "ensemble")
        teacher = self.loss.spec.teacher is not None
        descents = 2 if self.weight_perturbation > 0 else 1
        double = bool(self.loss.differentiated_twice)
        return forward * (attack + descents * teacher + descents * (3 + 3 * double) * len(self.loss.parts))
