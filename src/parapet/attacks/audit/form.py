"""Check 1: the model answers alike, in logits, whatever else is asked; and it knows no image by heart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from parapet.attacks.adaptive import is_random
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import SIGNIFICANCE, Result, mean, result
from parapet.attacks.balls import distance
from parapet.attacks.behaviour import ROUNDING, observe
from parapet.attacks.inputs import predict
from parapet.attacks.intervals import sign_test
from parapet.attacks.noise import derived
from parapet.attacks.pgd import pgd

# With fewer images a paired test hardly reaches 1 %.
_ENOUGH = 30
# Honest nets keep their robustness on one of the two kinds of unseen images, give or take 15 points: a mixture's grey
# pixels are within reach of eps from both sides, a shift is large on small images.
_MEMORY_WARNS, _MEMORY_FAILS = 0.25, 0.4


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


def memory(scene: Scene) -> Result:
    """Images that nobody has seen are as robust as those of the data set: mixtures of two of a class, or shifted ones.

    A model that knows the evaluation's images, or those that it was asked about first, can guard just these.
    """
    numbers: dict[str, Any] = {}
    verdict = None
    for kind, make in (("mixtures", _mixed), ("shifted", _shifted)):
        rows, unseen = _fresh(scene, *make(scene))
        numbers[kind] = len(rows)
        if len(rows) < _ENOUGH // 2:
            continue
        points = pgd(scene.model, unseen, scene.labels[rows], eps=scene.eps, norm=scene.norm,
                     steps=scene.budget.pgd_steps, loss="margin", early_stop=True,
                     generator=derived(scene.seeds[rows], 71))
        stands, known = predict(scene.model, points) == scene.labels[rows], scene.pgd_margin[rows]
        gap = mean(known) - mean(stands)
        p_value = sign_test(int((known & ~stands).sum()), int((~known & stands).sum()))
        numbers |= {f"of_the_images_{kind}": mean(known), f"of_the_{kind}": mean(stands), f"gap_{kind}": gap,
                    f"p_value_{kind}": p_value}
        if gap <= _MEMORY_WARNS:
            return result("memory", "pass", numbers, "Images that the model has not met are as robust.")
        failed = gap > _MEMORY_FAILS and p_value < SIGNIFICANCE
        verdict = "fail" if failed and verdict != "warn" else "warn"
    if verdict is None:
        return result("memory", "pass", numbers, "Too few mixtures of images and shifted ones are right and far enough "
                      "from them, so nothing is known against the model.")
    return result("memory", verdict, numbers, "Images of the data set are robust, and neither mixtures of them nor "
                  "shifted ones are, so the model may know these images; audit it on others.")


def _mixed(scene: Scene) -> tuple[Tensor, Tensor]:
    """(images (m,), the mean of each and of another image of its class (m, C, H, W))."""
    rows, partners = _pairs(scene.labels)
    return rows, (scene.images[rows] + scene.images[partners]) / 2


def _shifted(scene: Scene) -> tuple[Tensor, Tensor]:
    """(images (n,), each a pixel further right, its left edge repeated (n, C, H, W))."""
    shifted = pad(scene.images, (1, 0, 0, 0), mode="replicate")[..., :-1]
    return torch.arange(len(shifted), device=shifted.device), shifted


def _fresh(scene: Scene, rows: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the `unseen` images that the model gets right and that lie further than eps from every image's ball."""
    if len(rows) == 0:
        return rows, unseen
    apart = torch.cdist(unseen.flatten(1).double(), scene.images.flatten(1).double(),
                        p=torch.inf if scene.norm == "linf" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")
    far = apart.amin(1) > scene.eps
    kept = (predict(scene.model, unseen) == scene.labels[rows]) & far
    return rows[kept], unseen[kept]


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(images (m,), another image of the same class for each (m,))."""
    order = labels.argsort(stable=True)
    same = labels[order[:-1]] == labels[order[1:]]
    return order[:-1][same], order[1:][same]
