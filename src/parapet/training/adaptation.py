"""Defence parameters that adapt every epoch: how feedback changes attack steps, radius and regularisers.

El-Sayed 2025 adapts a defence's parameters to the attacks that succeed. The feedback here is the gap between the
accuracies under one step and under several (catastrophic overfitting: Wong et al. 2020; Andriushchenko and Flammarion
2020) and the curve of robust validation accuracy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

# Single-step attacks fail and several steps succeed: above the first gap the training attack becomes stronger, above
# the second the network misleads single steps.
WIDE_GAP, COLLAPSE = 0.15, 0.20
# A weak network has a gap without misleading anything. A collapse also lowers the accuracy under several steps by this
# much since the last good feedback.
_FALL = 0.10
_NARROW_GAP = 0.01
_MOST_EXTRA_STEPS = 8
# Regularisers grow by a quarter, up to four times the recipe's weight, where robust accuracy has not improved by
# `_IMPROVEMENT` for `_PATIENCE` epochs.
_GROWTH, _LARGEST = 1.25, 4.0
_PATIENCE, _IMPROVEMENT = 2, 0.002
# The share of correctly classified images that remain correct under the attack: above the first bound the attack is too
# weak, below the second too strong to learn from. The radius then changes by a twentieth, within these bounds.
_TOO_WEAK, _TOO_STRONG = 0.95, 0.4
_RADIUS_STEP, _SMALLEST_RADIUS, _LARGEST_RADIUS = 1.05, 0.75, 1.25


@dataclass(frozen=True)
class DefenceParameters:
    """What the next epoch trains with beside the recipe, and what the next adaptation depends on.

    extra_steps: added to the recipe's attack steps; step sizes shrink accordingly. radius_factor: multiplies the
    training radius, and with it the step sizes. regulariser_factor: multiplies every regulariser's weight. stalled:
    epochs with feedback since robust accuracy last improved. best: the best robust accuracy. collapses: how often the
    run has been rolled back. good: accuracy under several steps in the last feedback that was not misleading, None
    before the first.
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
        """The share of images that several steps break and one step does not."""
        return self.single_step - self.several_steps

    @property
    def survival(self) -> float:
        """The share of correctly classified images that remain correct under several steps; 0 where none is correct."""
        return self.several_steps / self.clean if self.clean > 0 else 0.0

    @property
    def misleading(self) -> bool:
        """Whether the network misleads single steps: a gap of more than 20 points."""
        return self.gap > COLLAPSE

    def collapsed(self, defence: DefenceParameters) -> bool:
        """Whether the network has learnt to mislead single steps since the last good feedback."""
        return self.misleading and defence.good is not None and self.several_steps < defence.good - _FALL


def adapt(defence: DefenceParameters, feedback: Feedback) -> DefenceParameters:
    """The parameters of the next epoch.

    A wide gap adds a step to the attack, and a narrow gap removes an added step. The radius grows where the attack is
    too weak, and shrinks where it is too strong. Regularisers gain weight where robust accuracy has not improved for
    two epochs with feedback.
    """
    if feedback.gap > WIDE_GAP:
        defence = replace(defence, extra_steps=min(defence.extra_steps + 1, _MOST_EXTRA_STEPS))
    elif feedback.gap < _NARROW_GAP and defence.extra_steps > defence.collapses:
        defence = replace(defence, extra_steps=defence.extra_steps - 1)
    if feedback.survival > _TOO_WEAK:
        defence = replace(defence, radius_factor=min(_LARGEST_RADIUS, defence.radius_factor * _RADIUS_STEP))
    elif feedback.survival < _TOO_STRONG:
        defence = replace(defence, radius_factor=max(_SMALLEST_RADIUS, defence.radius_factor / _RADIUS_STEP))
    if feedback.several_steps > defence.best + _IMPROVEMENT:
        return replace(defence, best=feedback.several_steps, stalled=0)
    defence = replace(defence, stalled=defence.stalled + 1)
    if defence.stalled < _PATIENCE:
        return defence
    return replace(defence, stalled=0, regulariser_factor=min(_LARGEST, _GROWTH * defence.regulariser_factor))


def strengthen_attack(defence: DefenceParameters, *, rolled_back: bool = True) -> DefenceParameters:
    """One more attack step; a step that is added after a rollback is never removed again."""
    return replace(defence, extra_steps=min(defence.extra_steps + 1, _MOST_EXTRA_STEPS + defence.collapses + 1),
                   collapses=defence.collapses + rolled_back)
