"""Defence parameters that adapt every epoch: what feedback does to attack steps, radius and regularisers.

El-Sayed 2025 adapts a defence's parameters to the attacks that get through. The feedback here is the gap between one
step and several (catastrophic overfitting: Wong et al. 2020; Andriushchenko and Flammarion 2020) and the curve of
robust validation accuracy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

# The network fools single steps and falls to several: the training attack has to become stronger, or has collapsed.
WIDE_GAP, COLLAPSE = 0.15, 0.20
# A gap alone may be honest: a weak network has one too. It is a collapse where what holds against several steps fell by
# this much below the last good look.
_FALL = 0.10
_NARROW_GAP = 0.01
_MOST_EXTRA_STEPS = 8
# A regulariser grows by a quarter while robust accuracy stands still, up to four times what the recipe asks for.
_GROWTH, _LARGEST = 1.25, 4.0
_PATIENCE, _WORTH = 2, 0.002
# Of the images that are right, the share that the attack leaves right: above the first it is too weak to teach much,
# below the second too strong to be learnt from. The radius then moves by a twentieth, within these bounds.
_HARMLESS, _CRUSHING = 0.95, 0.4
_RADIUS_STEP, _SMALLEST_RADIUS, _LARGEST_RADIUS = 1.05, 0.75, 1.25


@dataclass(frozen=True)
class DefenceParameters:
    """What the next epoch trains with, beside the recipe.

    extra_steps: added to the recipe's attack steps; step sizes shrink with them. radius_factor: on the training radius,
    and so on the step sizes. regulariser_factor: on every regulariser's weight. stalled: epochs
    with feedback since robust accuracy last rose. collapses: how often the run has been rolled back. good: accuracy
    under several steps at the last look that had no gap of a collapse, None before the first.
    """

    extra_steps: int = 0
    radius_factor: float = 1.0
    regulariser_factor: float = 1.0
    stalled: int = 0
    best: float = 0.0
    collapses: int = 0
    good: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Feedback:
    """Accuracies in [0, 1] on the same validation images: under one step, under several, and without any attack."""

    single_step: float
    several_steps: float
    clean: float = 1.0

    @property
    def gap(self) -> float:
        """What several steps break and one does not."""
        return self.single_step - self.several_steps

    @property
    def withstood(self) -> float:
        """The share of the right images that several steps leave right; 0 where none is right."""
        return self.several_steps / self.clean if self.clean > 0 else 0.0

    @property
    def misleading(self) -> bool:
        """Whether the gap is that of a network which misleads single steps (over 20 points)."""
        return self.gap > COLLAPSE

    def collapsed(self, defence: DefenceParameters) -> bool:
        """Whether the network has learnt to mislead single steps since the last good look."""
        return self.misleading and defence.good is not None and self.several_steps < defence.good - _FALL


def adapt(defence: DefenceParameters, feedback: Feedback) -> DefenceParameters:
    """The defence of the next epoch.

    A wide gap adds a step to the attack and a narrow one takes an added one away; an attack that breaks next to nothing
    gains radius, and one that breaks nearly all loses some; where robust accuracy has not risen for two looks,
    regularisers gain weight.
    """
    if feedback.gap > WIDE_GAP:
        defence = replace(defence, extra_steps=min(defence.extra_steps + 1, _MOST_EXTRA_STEPS))
    elif feedback.gap < _NARROW_GAP and defence.extra_steps > defence.collapses:
        defence = replace(defence, extra_steps=defence.extra_steps - 1)
    if feedback.withstood > _HARMLESS:
        defence = replace(defence, radius_factor=min(_LARGEST_RADIUS, defence.radius_factor * _RADIUS_STEP))
    elif feedback.withstood < _CRUSHING:
        defence = replace(defence, radius_factor=max(_SMALLEST_RADIUS, defence.radius_factor / _RADIUS_STEP))
    if feedback.several_steps > defence.best + _WORTH:
        return replace(defence, best=feedback.several_steps, stalled=0)
    defence = replace(defence, stalled=defence.stalled + 1)
    if defence.stalled < _PATIENCE:
        return defence
    return replace(defence, stalled=0, regulariser_factor=min(_LARGEST, _GROWTH * defence.regulariser_factor))


def strengthen_attack(defence: DefenceParameters, *, rolled_back: bool = True) -> DefenceParameters:
    """A stronger attack; the step that a rollback adds is never taken away again."""
    return replace(defence, extra_steps=min(defence.extra_steps + 1, _MOST_EXTRA_STEPS + defence.collapses + 1),
                   collapses=defence.collapses + rolled_back)
