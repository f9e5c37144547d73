"""Checks 6 and 11: stronger attacks break more, and cross-entropy does not miss what the margin finds."""

from __future__ import annotations

from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import WARN_GAP, Result, beyond, mean


def order(scene: Scene) -> Result:
    """Check 6: FGSM breaks nothing that the white box does not, and little that PGD does not."""
    many = scene.pgd_ce & scene.pgd_margin
    numbers = {"fgsm": mean(scene.fgsm), "pgd": mean(many), "white_box": mean(scene.white)}
    return beyond("order", scene.white, scene.fgsm, numbers, "FGSM breaks images that iterative attacks do not; the "
                  "loss surface misleads them, so raise their steps and restarts.",
                  "FGSM breaks images that PGD does not", mean(many) - mean(many & scene.fgsm) > WARN_GAP)


def margin(scene: Scene) -> Result:
    """Check 11: PGD on either loss, with a few restarts, breaks nothing that the white box does not."""
    ce, by_margin = scene.pgd_restarts
    numbers = {"pgd_ce": mean(ce), "pgd_margin": mean(by_margin)}
    return beyond("margin", scene.white, ce & by_margin, numbers, "PGD with a few restarts breaks images that the "
                  "white box does not, so the white box is too weak; raise its steps and restarts.", "the margin is a "
                  "much stronger loss than cross-entropy, a mark of label smoothing or of logits of an unusual scale",
                  mean(ce) - mean(ce & by_margin) > WARN_GAP)
