"""Check 1: the model answers the same question alike, in logits, whatever else is asked."""

from __future__ import annotations

import torch

from parapet.attacks.adaptive import is_random
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import Result, result
from parapet.attacks.balls import distance
from parapet.attacks.pgd import pgd

# Another batch size takes other kernels, whose sums differ in the last places; relative to the spread of the logits.
_ROUNDING = 1e-3
_ALONE = 4


def well_formed(scene: Scene) -> Result:
    """Deterministic over repeated passes and over time, the same in any batch, logits, attacks inside their ball."""
    model, images, first = scene.model, scene.images, scene.logits
    spread = float(first.std().clamp(min=1e-6)) if first.numel() > 1 else 1.0
    with torch.no_grad():
        repeated = [model(images) for _ in range(2)]
        order = torch.arange(len(images) - 1, -1, -1, device=images.device)
        shuffled = model(images[order])[order]
        alone = torch.cat([model(image[None]) for image in images[:_ALONE]])
    drift = max(float((again - first).abs().max()) for again in repeated) / spread
    company = max(float((shuffled - first).abs().max()), float((alone - first[:_ALONE]).abs().max())) / spread
    points = pgd(model, images, scene.labels, eps=scene.eps, norm=scene.norm, steps=3, generator=scene.seeds)
    outside = float((distance(points.float(), images, scene.norm) - scene.eps).clamp(min=0).max())
    probabilities = bool((first >= 0).all() and (first.sum(1) - 1).abs().max() < 1e-3)
    numbers = {"largest_change_of_repeated_passes": drift, "largest_change_with_the_batch": company,
               "rows_sum_to_one": probabilities, "outside_the_ball": outside}

    def fail(advice: str) -> Result:
        return result("well_formed", "fail", numbers, advice)
    if probabilities:
        return fail("The model returns probabilities; return logits, or cross-entropy attacks meet no gradient.")
    if not first.isfinite().all() or outside > 0:
        return fail("The model returns numbers that are not finite, or attacks leave their ball; mend that first.")
    if drift > _ROUNDING and is_random(model):
        return result("well_formed", "warn", numbers, "The model says that it is random; its numbers hold for the mean "
                      "over its draws, so report how many.")
    if drift > _ROUNDING:
        return fail("Passes over the same images differ, at once or after other questions; declare the randomness and "
                    "attack its expectation (Eot), or remove the model's memory.")
    if company > _ROUNDING:
        return fail("The answer to an image depends on its neighbours in the batch; use fixed statistics, or every "
                    "number depends on the batch size.")
    return result("well_formed", "pass", numbers, "Deterministic logits, the same in any batch.")
