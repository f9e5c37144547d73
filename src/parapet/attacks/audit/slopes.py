"""Checks 2 and 10: gradients are there, do not depend on the logits' scale, point uphill, and one step is not all."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import FAIL_GAP, SIGNIFICANCE, WARN_GAP, Result, beyond, graded, mean, result
from parapet.attacks.balls import ball, unit
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import ask
from parapet.attacks.noise import derived, uniform
from parapet.attacks.objectives import Objective, cross_entropy
from parapet.attacks.objectives import margin as margin_objective
from parapet.intervals import sign_test

# A gradient is gone where the margin would change by this share of itself over the whole range of a pixel; those of
# honest nets lie ten orders of magnitude above it in float32.
_TINY = 1e-12
# Cross-entropy's gradient, as a share of the margin's, may be sure to ten places and honest; at 1e-30 its softmax has
# rounded away.
_TINY_CE = 1e-30
# A gradient must beat so many random directions of the same length, at this share of the radius.
_RIVALS, _STRIDE = 8, 0.25
# Over this gap between one step and many, a net may have learnt to fool single steps (Wong, Rice, Kolter 2020).
_COLLAPSE_GAP = 0.2
_INNER = (0.1, 0.25, 0.5, 0.75)


def gradients(scene: Scene) -> Result:
    """The share of images whose input gradient is zero or tiny, at the image and at a random point of the ball."""
    around = ball(scene.images, scene.eps, scene.norm)
    places = (scene.images, around.start(uniform(derived(scene.seeds, 11), scene.images.shape[1:])))
    vanished: dict[str, list[float]] = {"ce": [], "margin": []}
    for points in places:
        margins, steepest = _size(scene, points, margin_objective)
        for name, size, tiny in (("ce", _size(scene, points, cross_entropy)[1], _TINY_CE * steepest),
                                 ("margin", steepest, _TINY * margins.abs())):
            vanished[name].append(mean((size <= tiny) | ~size.isfinite()))
    numbers = {f"vanished_{name}": max(shares) for name, shares in vanished.items()}
    if numbers["vanished_margin"] < 0.1 <= numbers["vanished_ce"]:
        return result("gradients", "pass", numbers, "Taken into account: the cross-entropy of many images has no "
                      "gradient left, because the logits are large, and the margin, which has one, is attacked too.")
    return graded("gradients", numbers["vanished_margin"], numbers, "Many images have no input gradient, even of the "
                  "margin; the model hides it, so attack it through a differentiable stand-in (Bpda) or without "
                  "gradients.", "Input gradients are there.", warn=0.02, fail=0.2)


def scale(scene: Scene) -> Result:
    """Cross-entropy attacks on logits times 0.1 and times 10 must not break what the white box does not."""
    numbers, survived, lowest = {"accuracy_unscaled": mean(scene.pgd_ce)}, scene.pgd_ce, mean(scene.pgd_ce)
    for factor in (0.1, 10.0):
        def scaled(images: Tensor, factor: float = factor) -> Tensor:
            return scene.model(images) * factor
        outcome = scene.survives(pgd, model=scaled, steps=scene.budget.pgd_steps, loss=cross_entropy)
        numbers[f"accuracy_times_{factor:g}"] = mean(outcome)
        survived, lowest = survived & outcome, min(lowest, mean(outcome))
    return beyond("scale", scene.white, survived, numbers, "The scale of the logits shields the model from attacks; "
                  "rescale the logits before they are attacked.", "the scale of the logits shields the model from "
                  "cross-entropy attacks", mean(scene.pgd_ce) - lowest > WARN_GAP)


def uphill(scene: Scene) -> Result:
    """A step along the margin's gradient must raise the margin, and more than steps in random directions do.

    This asks the gradient itself whether it is one, so that it finds gradients that were turned, drowned in noise or
    made up, whatever did it.
    """
    around = ball(scene.images, scene.eps, scene.norm)
    stride = _STRIDE * scene.eps
    _, start, slope = input_gradient(scene.model, scene.images, scene.labels, margin_objective)
    with torch.no_grad():
        gain = margin_objective(ask(scene.model, around.step(scene.images, slope, stride)), scene.labels) - start
        rival = torch.full_like(gain, -torch.inf)
        for draw in range(_RIVALS):
            direction = uniform(derived(scene.seeds, 12), scene.images.shape[1:], draw) - 0.5
            points = around.step(scene.images, direction, stride)
            rival = torch.maximum(rival, margin_objective(ask(scene.model, points), scene.labels) - start)
    beaten = (gain <= rival) | (gain <= 0)
    numbers = {"share_not_uphill": mean(beaten), "median_gain": float(gain.median()),
               "median_gain_of_the_best_random_step": float(rival.median())}
    return graded("uphill", mean(beaten), numbers, "A step along the gradient helps an attacker no more than a random "
                  "one, so gradients do not show the way; attack without them, or through a stand-in (Bpda).",
                  "Gradients point uphill.", warn=0.25, fail=0.6)


def alignment(scene: Scene) -> Result:
    """How gradients agree inside the ball, and whether the net was trained to fool single steps alone.

    A collapsed net (catastrophic overfitting: Wong et al. 2020; Kim et al. 2021) stands at the end of the FGSM step,
    falls inside it, and falls to many steps. That says how it was trained, and is a note: many steps are attacked with.
    """
    around = ball(scene.images, scene.eps, scene.norm)
    _, _, at_image = input_gradient(scene.model, scene.images, scene.labels, cross_entropy)
    near = around.start(uniform(derived(scene.seeds, 13), scene.images.shape[1:]))
    _, _, at_random = input_gradient(scene.model, near, scene.labels, cross_entropy)
    cosine = (unit(at_image) * unit(at_random)).flatten(1).sum(1)
    many = scene.pgd_ce & scene.pgd_margin
    inner = torch.ones_like(scene.fgsm)
    for share in _INNER:
        inner &= scene.judge(around.step(scene.images, at_image, share * scene.eps))
    difference = mean(scene.fgsm) - mean(many)
    hole = mean(scene.fgsm) - mean(scene.fgsm & inner)
    p_value = sign_test(int((scene.fgsm & ~inner).sum()), 0)
    numbers = {"gradient_cosine": float(cosine.nanmedian()), "fgsm": mean(scene.fgsm), "pgd": mean(many),
               "fgsm_pgd_gap": difference, "broken_inside_the_fgsm_step_alone": hole, "p_value": p_value}
    if difference > _COLLAPSE_GAP or (hole > FAIL_GAP and p_value < SIGNIFICANCE):
        return result("alignment", "pass", numbers, "A note on the training: single steps fail where many succeed, so "
                      "the net may have learnt to fool single steps (catastrophic overfitting); train with more steps "
                      "or a larger random start. The number that is shown comes from attacks with many steps.")
    return result("alignment", "pass", numbers, "One step and many agree as they should.")


def _size(scene: Scene, points: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """(the objective at the points (n,), the largest entry of its gradient (n,)), in double precision."""
    _, values, gradient = input_gradient(scene.model, points, scene.labels, objective)
    return values.double(), gradient.flatten(1).abs().amax(1).double()
