"""Gradient checks: gradients exist, do not depend on the scale of the logits, increase the margin, and agree nearby."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.audit.context import AuditContext
from parapet.attacks.audit.verdicts import (
    FAIL_GAP,
    SIGNIFICANCE,
    WARN_GAP,
    Result,
    judge_gap_beyond,
    judge_share,
    mean,
    result,
)
from parapet.attacks.balls import ball, unit
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import ask
from parapet.attacks.noise import derived, uniform
from parapet.attacks.objectives import Objective, cross_entropy, margin
from parapet.intervals import sign_test

# A gradient has vanished if, over the whole range of a pixel, it changes the margin by less than this share of the
# margin. Gradients of honest networks are ten orders of magnitude larger in float32.
_TINY = 1e-12
# For cross-entropy, as a share of the margin's gradient. An honest network that is certain to ten decimal places is
# still far above it; at 1e-30 the softmax has rounded to 0.
_TINY_CE = 1e-30
# How many random directions of the same length a gradient has to beat, and that length as a share of the radius.
_RANDOM_STEPS, _STEP = 8, 0.25
# Above this gap between FGSM and PGD a network may have learnt to resist single steps (Wong, Rice, Kolter 2020).
_COLLAPSE_GAP = 0.2
_INNER = (0.1, 0.25, 0.5, 0.75)


def gradients(context: AuditContext) -> Result:
    """The share of images whose input gradient is zero or tiny, at the image or at a random point of the ball."""
    around = ball(context.images, context.eps, context.norm)
    places = (context.images, around.start(uniform(derived(context.seeds, 11), context.images.shape[1:])))
    vanished: dict[str, list[float]] = {"ce": [], "margin": []}
    for points in places:
        margins, steepest = _value_and_slope(context, points, margin)
        for name, slope, tiny in (("ce", _value_and_slope(context, points, cross_entropy)[1], _TINY_CE * steepest),
                                  ("margin", steepest, _TINY * margins.abs())):
            vanished[name].append(mean((slope <= tiny) | ~slope.isfinite()))
    numbers = {f"vanished_{name}": max(shares) for name, shares in vanished.items()}
    if numbers["vanished_margin"] < 0.1 <= numbers["vanished_ce"]:
        return result("gradients", "pass", numbers, "Taken into account: the gradient of cross-entropy vanishes for "
                      "many images, because the logits are large; the margin, whose gradient does not, is attacked "
                      "too.")
    return judge_share("gradients", numbers["vanished_margin"], numbers, "For many images the input gradient vanishes, "
                       "even that of the margin, so gradients are masked; attack through a differentiable "
                       "approximation (Bpda) or without gradients.", "The input gradients do not vanish.", warn=0.02,
                       fail=0.2)


def scale(context: AuditContext) -> Result:
    """Cross-entropy attacks on logits times 0.1 and times 10 break nothing that the white-box attacks do not."""
    numbers, survived, lowest = {"accuracy_unscaled": mean(context.pgd_ce)}, context.pgd_ce, mean(context.pgd_ce)
    for factor in (0.1, 10.0):
        def scaled(images: Tensor, factor: float = factor) -> Tensor:
            return context.model(images) * factor
        outcome = context.survivors(pgd, model=scaled, steps=context.budget.pgd_steps, loss=cross_entropy)
        numbers[f"accuracy_times_{factor:g}"] = mean(outcome)
        survived, lowest = survived & outcome, min(lowest, mean(outcome))
    return judge_gap_beyond("scale", context.white_box, survived, numbers, "Attacks break more images when the logits "
                            "are rescaled, so their scale hides adversarial images; rescale the logits before the "
                            "model is attacked.", "cross-entropy attacks break more images when the logits are "
                            "rescaled", mean(context.pgd_ce) - lowest > WARN_GAP)


def uphill(context: AuditContext) -> Result:
    """A step along the gradient of the margin increases the margin, and more than steps in random directions do.

    The test uses the gradient itself, so it finds gradients that were rotated, drowned in noise or invented, whatever
    the cause.
    """
    around = ball(context.images, context.eps, context.norm)
    length = _STEP * context.eps
    _, start, slope = input_gradient(context.model, context.images, context.labels, margin)
    with torch.no_grad():
        gain = margin(ask(context.model, around.step(context.images, slope, length)), context.labels) - start
        random_gain = torch.full_like(gain, -torch.inf)
        for draw in range(_RANDOM_STEPS):
            direction = uniform(derived(context.seeds, 12), context.images.shape[1:], draw) - 0.5
            points = around.step(context.images, direction, length)
            random_gain = torch.maximum(random_gain, margin(ask(context.model, points), context.labels) - start)
    beaten = (gain <= random_gain) | (gain <= 0)
    numbers = {"share_not_uphill": mean(beaten), "median_gain": float(gain.median()),
               "median_gain_of_the_best_random_step": float(random_gain.median())}
    return judge_share("uphill", mean(beaten), numbers, "For many images a step along the gradient increases the "
                       "margin no more than a random step, so gradients are misleading; attack without them, or "
                       "through a differentiable approximation (Bpda).", "Steps along the gradient increase the "
                       "margin.", warn=0.25, fail=0.6)


def alignment(context: AuditContext) -> Result:
    """How well gradients agree inside the ball, and whether the network resists single steps only.

    A network after catastrophic overfitting (Wong et al. 2020; Kim et al. 2021) survives the end of the FGSM step,
    fails inside it, and fails against many steps. This describes its training and is a note: the reported number comes
    from attacks with many steps.
    """
    around = ball(context.images, context.eps, context.norm)
    _, _, at_image = input_gradient(context.model, context.images, context.labels, cross_entropy)
    near = around.start(uniform(derived(context.seeds, 13), context.images.shape[1:]))
    _, _, at_random = input_gradient(context.model, near, context.labels, cross_entropy)
    cosine = (unit(at_image) * unit(at_random)).flatten(1).sum(1)
    many = context.pgd_ce & context.pgd_margin
    inner = torch.ones_like(context.fgsm)
    for share in _INNER:
        inner &= context.try_points(around.step(context.images, at_image, share * context.eps))
    difference = mean(context.fgsm) - mean(many)
    hole = mean(context.fgsm) - mean(context.fgsm & inner)
    p_value = sign_test(int((context.fgsm & ~inner).sum()), 0)
    numbers = {"gradient_cosine": float(cosine.nanmedian()), "fgsm": mean(context.fgsm), "pgd": mean(many),
               "fgsm_pgd_gap": difference, "broken_inside_the_fgsm_step_alone": hole, "p_value": p_value}
    if difference > _COLLAPSE_GAP or (hole > FAIL_GAP and p_value < SIGNIFICANCE):
        return result("alignment", "pass", numbers, "A note on the training: single-step attacks fail where multi-step "
                      "attacks succeed, so the network may have learnt to resist single steps only (catastrophic "
                      "overfitting); train with more attack steps or a larger random start. The reported number comes "
                      "from attacks with many steps.")
    return result("alignment", "pass", numbers, "Single-step and multi-step attacks agree.")


def _value_and_slope(context: AuditContext, points: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """(the objective at the points (n,), the largest entry of its gradient (n,)), in double precision."""
    _, values, gradient = input_gradient(context.model, points, context.labels, objective)
    return values.double(), gradient.flatten(1).abs().amax(1).double()
