"""Checks 3, 4 and 5: more steps, more restarts and larger radii do what they should."""

from __future__ import annotations

import math

import torch

from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import FAIL_GAP, WARN_GAP, Result, beyond, gap, mean, result
from parapet.attacks.balls import ball, widest
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.noise import derived, uniform
from parapet.attacks.objectives import log_odds, margin

_LOOKS = (1, 2, 5, 10, 20, 50, 100)
_NEAR_CHANCE, _FAR_FROM_CHANCE = 0.05, 0.2


def steps(scene: Scene) -> Result:
    """Check 3: along one ascent of 100 steps the loss rises, and nothing breaks that the white box leaves standing."""
    around = ball(scene.images, scene.eps, scene.norm)
    points = around.start(uniform(derived(scene.seeds, 21), scene.images.shape[1:]))
    stands = torch.ones_like(scene.standing)
    outcomes, losses = {}, {}
    for step in range(_LOOKS[-1] + 1):
        logits, values, slope = input_gradient(scene.model, points, scene.labels, log_odds)
        stands = stands & (margin(logits, scene.labels) <= 0)
        if step in _LOOKS:
            outcomes[step], losses[step] = stands, float(values.mean())
        points = around.step(points, slope, 0.1 * scene.eps)
    scene.judge(points)
    accuracies = [mean(outcomes[step]) for step in _LOOKS]
    falls = max(losses[earlier] - losses[later] for earlier, later in zip(_LOOKS, _LOOKS[1:]))
    rise = max(losses.values()) - min(losses.values())
    # Shown are the log-odds of all other classes together; judged are the rises, which a constant would round away.
    together = math.log(scene.logits.shape[1] - 1)
    numbers = {"steps": list(_LOOKS), "accuracy": accuracies, "loss": [loss + together for loss in losses.values()],
               "largest_fall": falls}
    rough = rise <= 0 or falls > 0.25 * rise
    judged = beyond("steps", scene.white, outcomes[100], numbers, "A hundred steps break images that the white box "
                    "does not; raise the number of its steps until the accuracy settles.", "the loss does not rise "
                    "evenly with the steps" if rough else "the last fifty of a hundred steps still break images",
                    rough or mean(outcomes[50]) - mean(outcomes[100]) > WARN_GAP)
    # A rough surface may hide what is there, unless other attacks get on in spite of it.
    if judged["verdict"] == "pass" and rough and mean(scene.white) > max(FAIL_GAP, accuracies[-1] - WARN_GAP):
        return result("steps", "warn", judged["numbers"], "The loss does not rise with the steps as it should; the "
                      "surface is rough or the gradients mislead, so compare with attacks that use none.")
    return judged


def restarts(scene: Scene) -> Result:
    """Check 4: ten restarts of PGD break little that the white box did not."""
    many = scene.survives(pgd, stream=31, among=scene.white, steps=scene.budget.pgd_steps, loss="margin",
                          restarts=scene.budget.restarts)
    numbers = {"one_restart": mean(scene.pgd_margin), "restarts": scene.budget.restarts,
               "white_box": mean(scene.white), "with_restarts": mean(scene.white & many)}
    return gap("restarts", scene.white, scene.white & many, numbers, "Restarts break more images; raise their number "
               "until the accuracy settles.")


def radius(scene: Scene) -> Result:
    """Check 5: the accuracy falls with the radius, and to nothing where every image can become all grey."""
    largest = 0.5 * widest(scene.images, scene.norm)
    radii = sorted({min(factor * scene.eps, largest) for factor in (0.5, 1.0, 2.0, 4.0)} | {largest})
    accuracies = []
    for eps in radii:
        outcome = scene.survives(pgd, eps=eps, steps=scene.budget.pgd_steps, loss="margin")
        if mean(outcome) > 0:
            outcome &= scene.survives(pgd, eps=eps, steps=scene.budget.pgd_steps, loss="ce", among=outcome)
        accuracies.append(mean(outcome))
    numbers = {"eps": [0.0, *radii], "accuracy": [1.0, *accuracies]}
    rises = max((later - earlier for earlier, later in zip(accuracies, accuracies[1:])), default=0.0)
    if accuracies[-1] > _FAR_FROM_CHANCE or rises > 0.05:
        return result("radius", "fail", numbers, "The accuracy does not fall to nothing as the radius grows, so the "
                      "attack is not finding what is there; look for hidden gradients.")
    if accuracies[-1] > _NEAR_CHANCE or rises > 0.02:
        return result("radius", "warn", numbers, "The accuracy falls late or unevenly as the radius grows; raise steps "
                      "and restarts.")
    return result("radius", "pass", numbers, "The accuracy falls to nothing as the radius grows.")
