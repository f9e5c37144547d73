"""Check 1: the model answers alike, in logits, whatever else is asked; and it knows no image by heart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import Eot, is_random
from parapet.attacks.audit.scene import Scene, state_of
from parapet.attacks.audit.verdicts import SIGNIFICANCE, Result, mean, result
from parapet.attacks.balls import distance
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, predict
from parapet.attacks.model_contract import ROUNDING, observe
from parapet.attacks.noise import derived
from parapet.intervals import sign_test

# Single draws of a random model that are asked, and by how many points they may stand less than their mean.
_SINGLE, _DRAWS_FAIL = 10, 0.1
# With fewer images a paired test hardly reaches 1 %.
_ENOUGH = 30
# Honest nets keep their robustness on one of the two kinds of mixtures, give or take 15 points. The grey of a mean is
# within reach of a large eps from both sides; on small images halves of two hardly fit.
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
    if state_of(scene.model) != scene.state:
        words = ("The model's parameters or buffers changed while it was asked; freeze them, for no number holds for a "
                 "model that learns from what it is asked.")
        return fail(words) if seen.drift > ROUNDING else result("well_formed", "warn", numbers, words)
    if is_random(scene.model) and scene.tried:
        numbers["mean_of_draws"], numbers["single_draws"] = of_single_draws(scene)
        if numbers["mean_of_draws"] - numbers["single_draws"] > _DRAWS_FAIL:
            return fail("The model says that it is random, and one draw of it falls far more often than the mean over "
                        "its draws, for which the numbers hold; serve the mean, or report what single draws get.")
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


def of_single_draws(scene: Scene) -> tuple[float, float]:
    """(robust accuracy of the mean over a random model's draws, the least that single draws have on average), on the
    points of the attacks so far and of one for which every draw counts alike."""
    labels, rows = scene.labels[scene.copied], scene.copied
    with _all_draws(scene.model, evenly=True):
        points = pgd(scene.model, scene.images[rows], labels, eps=scene.eps, norm=scene.norm,
                     steps=scene.budget.pgd_steps, loss="margin", generator=derived(scene.seeds[rows], 72))
    whole = [mean(predict(scene.model, tried) == labels) for tried in scene.tried]
    with _all_draws(scene.model, draws=1):
        single = [mean(torch.stack([predict(scene.model, tried) == labels for _ in range(_SINGLE)]))
                  for tried in [*scene.tried, points]]
    return min(whole), min(single)


@contextmanager
def _all_draws(model: Model, **switches: Any) -> Iterator[None]:
    """In this block every `Eot` in the model has these attributes."""
    randoms = [module for module in cast(nn.Module, model).modules() if isinstance(module, Eot)]
    before = [{name: getattr(module, name) for name in switches} for module in randoms]
    try:
        for module in randoms:
            vars(module).update(switches)
        yield
    finally:
        for module, values in zip(randoms, before):
            vars(module).update(values)


def memory(scene: Scene) -> Result:
    """Images that nobody has seen are as robust as those of the data set: mixtures of two of the same class.

    A model that knows the evaluation's images, or those that it was asked about first, can guard just these. Either
    kind of mixture clears it: their mean, or a half of each.
    """
    rows, partners = _pairs(scene.labels)
    one, other = scene.images[rows], scene.images[partners]
    half = one.shape[3] // 2
    kinds = {"means": (one + other) / 2, "halves": torch.cat([one[..., :half], other[..., half:]], dim=3)}
    numbers: dict[str, Any] = {}
    verdicts = []
    for kind, mixed in kinds.items():
        fresh = (predict(scene.model, mixed) == scene.labels[rows]) & (distance(mixed, one, scene.norm) > scene.eps) \
            & (distance(mixed, other, scene.norm) > scene.eps) if len(rows) else rows.bool()
        numbers[kind] = int(fresh.sum())
        if numbers[kind] < _ENOUGH // 2:
            continue
        points = pgd(scene.model, mixed[fresh], scene.labels[rows[fresh]], eps=scene.eps, norm=scene.norm,
                     steps=scene.budget.pgd_steps, loss="margin", early_stop=True,
                     generator=derived(scene.seeds[rows[fresh]], 71))
        stands, known = predict(scene.model, points) == scene.labels[rows[fresh]], scene.pgd_margin[rows[fresh]]
        gap, p_value = mean(known) - mean(stands), sign_test(int((known & ~stands).sum()), int((~known & stands).sum()))
        numbers |= {f"images_of_{kind}": mean(known), f"robust_{kind}": mean(stands), f"gap_{kind}": gap,
                    f"p_value_{kind}": p_value}
        if gap <= _MEMORY_WARNS:
            return result("memory", "pass", numbers, "Images that the model has not met are as robust.")
        verdicts.append("fail" if gap > _MEMORY_FAILS and p_value < SIGNIFICANCE else "warn")
    if not verdicts:
        return result("memory", "pass", numbers, "Too few mixtures of images are right and far enough from them, so "
                      "nothing is known against the model.")
    return result("memory", "warn" if "warn" in verdicts else "fail", numbers, "Images of the data set are robust and "
                  "mixtures of them are not, so the model may know these images; audit it on others.")


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(images (m,), another image of the same class for each (m,))."""
    order = labels.argsort(stable=True)
    same = labels[order[:-1]] == labels[order[1:]]
    return order[:-1][same], order[1:][same]
