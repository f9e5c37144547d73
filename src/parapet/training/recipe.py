"""From a genome and the training section of params.yaml to what the loop does: objective, crafting, perturbation."""

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
    """What every step of one epoch descends on.

    crafting is None for training without attacks; weight_perturbation is AWP's gamma, 0 for none; eps_ratio is the
    training radius over the threat model's.
    """

    loss: TrainingLoss
    crafting: Crafting | None
    weight_perturbation: float
    eps_ratio: float

    @classmethod
    def of(cls, genome: Genome, config: TrainingConfig) -> Recipe:
        """The recipe half of `genome`; a gene's label smoothing goes before the configuration's."""
        loss = LOSSES[genome.loss]
        weights = {weight.name: genome[weight.gene]
                   for weight in (*loss.weights, *(MOREL_WEIGHTS if loss.joins_morel else ()))}
        training_loss = TrainingLoss(genome.loss, weights, {name: genome[name] for name in REGULARISERS},
                              genome.label_smoothing or config.label_smoothing)
        crafting = None if not loss.attacked else Crafting(genome.crafting, genome.steps,
                                                           divergence=loss.crafted_on_divergence)
        return cls(training_loss, crafting, genome.weight_perturbation, genome.eps_ratio)

    def adapted(self, defence: DefenceParameters) -> Recipe:
        """The recipe of an epoch: more attack steps, another radius, heavier regularisers."""
        crafting = self.crafting
        if crafting is not None and defence.extra_steps:
            steps = (crafting.steps if crafting.kind == "pgd" else 1) + defence.extra_steps
            crafting = replace(crafting, kind="pgd", steps=steps)
        weights = {name: weight * defence.regulariser_factor for name, weight in self.loss.regularisers.items()}
        return replace(self, crafting=crafting, eps_ratio=self.eps_ratio * defence.radius_factor,
                       loss=replace(self.loss, regularisers=weights))

    def metrics(self) -> dict[str, float]:
        """What to log of an epoch beside its losses: attack steps and each regulariser's weight."""
        weights = {f"{name}_weight": weight for name, weight in self.loss.regularisers.items() if weight > 0}
        return {"training_steps": float(self.crafting.passes if self.crafting else 0), **weights}

    def flops(self, forward: int) -> int:
        """Of training on one image once, `forward` being those of a forward pass.

        Forward 1, gradient of the image 1, gradient of the weights 1 more.
        """
        attack = 0 if self.crafting is None else 2 * self.crafting.passes + (
            self.crafting.divergence and self.crafting.kind != "ensemble")
        teacher = self.loss.spec.teacher is not None
        descents = 2 if self.weight_perturbation > 0 else 1
        double = bool(self.loss.differentiated_twice)
        return forward * (attack + descents * teacher + descents * (3 + 3 * double) * len(self.loss.parts))
