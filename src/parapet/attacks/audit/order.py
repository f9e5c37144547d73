"""Checks 6 and 11: stronger attacks break more, and cross-entropy does not miss what the margin finds."""

from __future__ import annotations

from typing import Any

from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import Result, gap, loss_gap, mean
from parapet.attacks.objectives import cross_entropy
from parapet.attacks.pgd import pgd

# Restarts give cross-entropy a fair chance: on small honest nets a single run of it stays points behind the margin.
_RESTARTS = 3


def order(scene: Scene) -> Result:
    """Check 6: FGSM breaks nothing that PGD does not, and PGD nothing that the white box does not."""
    many = scene.pgd_ce & scene.pgd_margin
    numbers = {"fgsm": mean(scene.fgsm), "pgd": mean(many), "white_box": mean(scene.white)}
    return gap("order", many, many & scene.fgsm, numbers, "FGSM breaks images that PGD does not; the loss surface "
               "misleads iterative attacks, so raise their steps and restarts.")


def margin(scene: Scene) -> Result:
    """Check 11: PGD on cross-entropy against PGD on the margin, with the same budget."""
    options: dict[str, Any] = {"steps": scene.budget.pgd_steps, "restarts": _RESTARTS, "stream": 41}
    ce = scene.pgd_ce & scene.survives(pgd, loss=cross_entropy, **options)
    by_margin = scene.pgd_margin & scene.survives(pgd, loss="margin", **options)
    numbers = {"pgd_ce": mean(ce), "pgd_margin": mean(by_margin)}
    return loss_gap("margin", ce, by_margin, numbers, "The margin attack is much stronger than cross-entropy, a "
                    "mark of label smoothing or of saturated logits; believe the margin.", warn=0.02)
