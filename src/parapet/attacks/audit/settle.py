"""The adaptive stage: where a check has beaten the suite, all images are attacked again with what beat it.

The result is the minimum over all stages (stages.py), and says which of them settled it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parapet.attacks.audit.scene import FULL, AuditBudget, Scene
from parapet.attacks.audit.stages import STAGES, Doubts, Given
from parapet.attacks.inputs import Model
from parapet.attacks.noise import Generator


class Settled(NamedTuple):
    """`stands` (N,): which images survive every stage too; `points` (N, C, H, W): what a stage broke them with, else
    the image itself; `stages`: {name, broke} of each that ran, and how many images it broke."""

    stands: Tensor
    points: Tensor
    stages: list[dict[str, Any]]

    @property
    def broke(self) -> int:
        """How many images all stages broke."""
        return sum(stage["broke"] for stage in self.stages)

    @property
    def by(self) -> str:
        """The stage that broke most."""
        return str(max(self.stages, key=lambda stage: stage["broke"])["name"])


def settle(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, standing: Tensor, doubts: Doubts,
           generator: Generator | None = None, surrogates: Sequence[Model] = (), limits: AuditBudget = FULL,
           loader: Callable[[], Model] | None = None) -> Settled | None:
    """Run every stage that the `doubts` ask for on the images that are `standing` (N,), one after the other.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. None where
    nothing is in doubt or nothing stands. As in the audit, `surrogates` are other models for the same images, and
    `loader` loads the model again in another process.
    """
    wanted = [stage for stage in STAGES if stage.wanted(doubts) and (
        limits.stages is None or stage.name in limits.stages)]
    if not wanted or not bool(standing.any()):
        return None
    rows = standing.nonzero().squeeze(1)
    scene = Scene(model, images[rows], labels[rows], norm, eps, generator, tuple(surrogates), limits, loader)
    given, stages = Given(scene, doubts), []
    for stage in wanted:
        before = int(scene.standing.sum())
        if before == 0:
            break
        stage.attack(given)
        stages.append({"name": stage.name, "broke": before - int(scene.standing.sum())})
    stands, points = torch.zeros_like(standing), images.clone()
    # An image that the model answers otherwise now than it did before has not stood.
    stands[rows[scene.right]] = scene.standing
    points[rows] = scene.adversarial(images[rows])
    return Settled(stands, points, stages)
