"""From a genome and the training section of params.yaml to what the loop does: objective, crafting, perturbation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from parapet.config import TrainingConfig
from parapet.genome import UNATTACKED, Genome
from parapet.training.adaptation import Defence
from parapet.training.crafting import Crafting
from parapet.training.losses.morel import ACCURACY_LOSSES
from parapet.training.objective import Objective
from parapet.training.regularisers import REGULARISERS

# Which gene weighs the second half of each loss.
_WEIGHTS = {"standard": {}, "pgd": {"clean_share": "clean_share"}, "trades": {"beta": "trades_beta"},
            "mart": {"beta": "trades_beta"}, "alp": {"pairing": "pairing"}, "max_mahalanobis": {},
            **dict.fromkeys(("softened", "distillation"), {"temperature": "temperature"})}


@dataclass(frozen=True)
class Recipe:
    """What every step of one epoch descends on.

    crafting is None for training without attacks; weight_perturbation is AWP's gamma, 0 for none; eps_ratio is the
    training radius over the threat model's.
    """

    objective: Objective
    crafting: Crafting | None
    weight_perturbation: float
    eps_ratio: float

    @classmethod
    def of(cls, genome: Genome, config: TrainingConfig) -> Recipe:
        """The recipe half of `genome`; a gene's label smoothing goes before the configuration's."""
        weights = {name: getattr(genome, gene) for name, gene in _WEIGHTS[genome.loss].items()}
        if genome.loss in ACCURACY_LOSSES:
            weights |= {"morel": genome.morel, "morel_alpha": genome.morel_alpha}
        objective = Objective(genome.loss, weights, {name: getattr(genome, name) for name in REGULARISERS},
                              genome.label_smoothing or config.label_smoothing)
        crafting = None if genome.loss in UNATTACKED else Crafting(genome.crafting, genome.steps,
                                                                   divergence=genome.loss == "trades")
        return cls(objective, crafting, genome.weight_perturbation, genome.eps_ratio)

    def with_defence(self, defence: Defence) -> Recipe:
        """The recipe of an epoch: more attack steps, another radius, heavier regularisers."""
        crafting = self.crafting
        if crafting is not None and defence.extra_steps:
            steps = (crafting.steps if crafting.kind == "pgd" else 1) + defence.extra_steps
            crafting = replace(crafting, kind="pgd", steps=steps)
        weights = {name: weight * defence.regulariser_factor for name, weight in self.objective.regularisers.items()}
        return replace(self, crafting=crafting, eps_ratio=self.eps_ratio * defence.radius_factor,
                       objective=replace(self.objective, regularisers=weights))

    def used(self) -> dict[str, float]:
        """What to log of an epoch beside its losses: attack steps and each regulariser's weight."""
        weights = {f"{name}_weight": weight for name, weight in self.objective.regularisers.items() if weight > 0}
        return {"training_steps": float(self.crafting.passes if self.crafting else 0), **weights}

    def flops(self, forward: int) -> int:
        """Of training on one image once, `forward` being those of a forward pass.

        Forward 1, gradient of the image 1, gradient of the weights 1 more.
        """
        attack = 0 if self.crafting is None else 2 * self.crafting.passes + (
            self.crafting.divergence and self.crafting.kind != "ensemble")
        teacher = self.objective.loss == "distillation"
        descents = 2 if self.weight_perturbation > 0 else 1
        double = any(self.objective.regularisers.get(name, 0) > 0 for name in ("input_gradient", "gradient_alignment"))
        return forward * (attack + descents * teacher + descents * (3 + 3 * double) * len(self.objective.parts))
