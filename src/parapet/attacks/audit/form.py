"""Check 1: the model answers the same question alike, in logits, whatever else is asked."""

from __future__ import annotations

from parapet.attacks.adaptive import is_random
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import Result, result
from parapet.attacks.balls import distance
from parapet.attacks.behaviour import ROUNDING, observe
from parapet.attacks.pgd import pgd

# With fewer images a paired test hardly reaches 1 %.
_ENOUGH = 30


def well_formed(scene: Scene) -> Result:
    """Deterministic over repeated passes and over time, the same in any batch, logits, attacks inside their ball."""
    seen = observe(scene.model, scene.images, scene.logits)
    points = pgd(scene.model, scene.images, scene.labels, eps=scene.eps, norm=scene.norm, steps=3,
                 generator=scene.seeds)
    outside = float((distance(points.float(), scene.images, scene.norm) - scene.eps).clamp(min=0).max())
    numbers = {"largest_change_of_repeated_passes": seen.drift, "largest_change_with_the_batch": seen.company,
               "rows_sum_to_one": seen.probabilities, "outside_the_ball": outside}

    def fail(advice: str) -> Result:
        return result("well_formed", "fail", numbers, advice)
    if seen.probabilities:
        return fail("The model returns probabilities; return logits, or cross-entropy attacks meet no gradient.")
    if not scene.logits.isfinite().all() or outside > 0:
        return fail("The model returns numbers that are not finite, or attacks leave their ball; mend that first.")
    if seen.drift > ROUNDING and is_random(scene.model):
        return result("well_formed", "warn", numbers, "The model says that it is random; its numbers hold for the mean "
                      "over its draws, so report how many.")
    if seen.drift > ROUNDING:
        return fail("Passes over the same images differ, at once or after other questions; declare the randomness and "
                    "attack its expectation (Eot), or remove the model's memory.")
    if seen.company > ROUNDING:
        return fail("The answer to an image depends on its neighbours in the batch; use fixed statistics, or every "
                    "number depends on the batch size.")
    if len(scene.labels) < _ENOUGH:
        return result("well_formed", "warn", numbers, f"The model gets only {len(scene.labels)} images right, too few "
                      f"to tell chance from masking; audit more images, at least {_ENOUGH} of them right.")
    return result("well_formed", "pass", numbers, "Deterministic logits, the same in any batch.")
