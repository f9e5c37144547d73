"""Strength checks: more steps, more restarts, larger radii and better losses break more, and FGSM breaks less."""

from __future__ import annotations

import math

import torch

from parapet.attacks.audit.context import AuditContext
from parapet.attacks.audit.verdicts import FAIL_GAP, WARN_GAP, Result, judge_gap, judge_gap_beyond, mean, result
from parapet.attacks.balls import ball, widest
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.noise import derived, uniform
from parapet.attacks.objectives import log_odds
from parapet.attacks.objectives import margin as margin_objective

# The steps at which accuracy and loss are recorded.
_RECORDED = (1, 2, 5, 10, 20, 50, 100)
_NEAR_CHANCE, _FAR_FROM_CHANCE = 0.05, 0.2


def steps(context: AuditContext) -> Result:
    """In one PGD run of 100 steps the loss rises, and it breaks nothing that the white-box attacks do not."""
    around = ball(context.images, context.eps, context.norm)
    points = around.start(uniform(derived(context.seeds, 21), context.images.shape[1:]))
    stands = torch.ones_like(context.standing)
    outcomes, losses = {}, {}
    for step in range(_RECORDED[-1] + 1):
        logits, values, slope = input_gradient(context.model, points, context.labels, log_odds)
        stands = stands & (margin_objective(logits, context.labels) <= 0)
        if step in _RECORDED:
            outcomes[step], losses[step] = stands, float(values.mean())
        points = around.step(points, slope, 0.1 * context.eps)
    context.try_points(points)
    accuracies = [mean(outcomes[step]) for step in _RECORDED]
    falls = max(losses[earlier] - losses[later] for earlier, later in zip(_RECORDED, _RECORDED[1:]))
    rise = max(losses.values()) - min(losses.values())
    # `log_odds` leaves out a constant, which would round the rises away; the report shows the loss with it.
    constant = math.log(context.logits.shape[1] - 1)
    numbers = {"steps": list(_RECORDED), "accuracy": accuracies, "loss": [loss + constant for loss in losses.values()],
               "largest_fall": falls}
    rough = rise <= 0 or falls > 0.25 * rise
    judged = judge_gap_beyond(
        "steps", context.white_box, outcomes[100], numbers, "PGD with 100 steps breaks images that the white-box "
        "attacks do not, so these have too few steps; raise their number of steps until the accuracy stops falling.",
        "the loss does not rise steadily with the steps" if rough else "PGD still breaks images between step 50 and "
        "step 100", rough or mean(outcomes[50]) - mean(outcomes[100]) > WARN_GAP)
    # A rough loss surface may hide adversarial images, unless other attacks find them all the same.
    if judged["verdict"] == "pass" and rough and mean(context.white_box) > max(FAIL_GAP, accuracies[-1] - WARN_GAP):
        return result("steps", "warn", judged["numbers"], "The loss does not rise steadily during PGD: the loss "
                      "surface is rough or the gradients are misleading; compare with gradient-free attacks.")
    return judged


def restarts(context: AuditContext) -> Result:
    """Ten restarts of PGD break few images that the white-box attacks did not."""
    many = context.survivors(pgd, stream=31, among=context.white_box, steps=context.budget.pgd_steps, loss="margin",
                             restarts=context.budget.restarts)
    numbers = {"one_restart": mean(context.pgd_margin), "restarts": context.budget.restarts,
               "white_box": mean(context.white_box), "with_restarts": mean(context.white_box & many)}
    return judge_gap("restarts", context.white_box, context.white_box & many, numbers, "PGD with more restarts breaks "
                     "images that the white-box attacks do not; raise their number of restarts until the accuracy "
                     "stops falling.")


def radius(context: AuditContext) -> Result:
    """The accuracy falls as the radius grows, to 0 at a radius at which every image can become uniformly grey."""
    largest = 0.5 * widest(context.images, context.norm)
    radii = sorted({min(factor * context.eps, largest) for factor in (0.5, 1.0, 2.0, 4.0)} | {largest})
    accuracies = []
    for eps in radii:
        outcome = context.survivors(pgd, eps=eps, steps=context.budget.pgd_steps, loss="margin")
        if mean(outcome) > 0:
            outcome &= context.survivors(pgd, eps=eps, steps=context.budget.pgd_steps, loss="ce", among=outcome)
        accuracies.append(mean(outcome))
    numbers = {"eps": [0.0, *radii], "accuracy": [1.0, *accuracies]}
    rises = max((later - earlier for earlier, later in zip(accuracies, accuracies[1:])), default=0.0)
    if accuracies[-1] > _FAR_FROM_CHANCE or rises > 0.05:
        return result("radius", "fail", numbers, "The accuracy does not fall to 0 as the radius grows, so PGD misses "
                      "adversarial images that exist; look for masked gradients.")
    if accuracies[-1] > _NEAR_CHANCE or rises > 0.02:
        return result("radius", "warn", numbers, "The accuracy falls late or unsteadily as the radius grows; raise the "
                      "steps and restarts of the attacks.")
    return result("radius", "pass", numbers, "The accuracy falls to 0 as the radius grows.")


def order(context: AuditContext) -> Result:
    """FGSM breaks nothing that the white-box attacks do not, and little that PGD does not."""
    many = context.pgd_ce & context.pgd_margin
    numbers = {"fgsm": mean(context.fgsm), "pgd": mean(many), "white_box": mean(context.white_box)}
    return judge_gap_beyond("order", context.white_box, context.fgsm, numbers, "The single step of FGSM breaks images "
                            "that iterative attacks do not, so the loss surface misleads these; raise their steps and "
                            "restarts.", "FGSM breaks images that PGD does not",
                            mean(many) - mean(many & context.fgsm) > WARN_GAP)


def margin(context: AuditContext) -> Result:
    """PGD on either loss, with a few restarts, breaks nothing that the white-box attacks do not."""
    ce, by_margin = context.pgd_restarts
    numbers = {"pgd_ce": mean(ce), "pgd_margin": mean(by_margin)}
    return judge_gap_beyond(
        "margin", context.white_box, ce & by_margin, numbers, "PGD with a few restarts breaks images that the "
        "white-box attacks do not, so these are too weak; raise their steps and restarts.", "PGD on the margin breaks "
        "far more images than PGD on cross-entropy, which is typical of label smoothing and of logits of unusual scale",
        mean(ce) - mean(ce & by_margin) > WARN_GAP)
