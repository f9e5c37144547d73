"""The adaptive stage: if a check casts doubt on the suite's result, all images are attacked by what fits the doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parapet.attacks.audit.adaptive_attacks import STAGES, Doubts
from parapet.attacks.audit.context import FULL, AuditBudget, AuditContext
from parapet.attacks.inputs import Model
from parapet.attacks.noise import Generator


class AdaptiveResult(NamedTuple):
    """stands: which images survive every attack of the stage too, bool (N,); points (N, C, H, W): the adversarial
    version of those that it broke, else the image itself; stages: {name, broke} of each attack that ran, with the
    number of images that it broke."""

    stands: Tensor
    points: Tensor
    stages: list[dict[str, Any]]

    @property
    def by(self) -> str:
        """The attack that broke most images."""
        return str(max(self.stages, key=lambda stage: stage["broke"])["name"])


def run_adaptive_stage(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, standing: Tensor,
                       doubts: Doubts, generator: Generator | None = None, surrogates: Sequence[Model] = (),
                       limits: AuditBudget = FULL, loader: Callable[[], Model] | None = None) -> AdaptiveResult | None:
    """Run every attack that the `doubts` call for on the images that are `standing`, bool (N,), one after the other.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `surrogates`
    are other models for the same images, and `loader` loads the model again in another process, as in the audit.
    Returns None if no attack is called for or no image stands.
    """
    wanted = [stage for stage in STAGES if stage.wanted(doubts) and (
        limits.stages is None or stage.name in limits.stages)]
    if not wanted or not bool(standing.any()):
        return None
    rows = standing.nonzero().squeeze(1)
    context = AuditContext(model, images[rows], labels[rows], norm, eps, generator, tuple(surrogates), limits, loader)
    stages = []
    for stage in wanted:
        before = int(context.standing.sum())
        if before == 0:
            break
        stage.attack(context, doubts)
        stages.append({"name": stage.name, "broke": before - int(context.standing.sum())})
    stands, points = torch.zeros_like(standing), images.clone()
    # An image that the model now answers differently than in the suite does not count as standing.
    stands[rows[context.correct]] = context.standing
    points[rows] = context.adversarial(images[rows])
    return AdaptiveResult(stands, points, stages)
