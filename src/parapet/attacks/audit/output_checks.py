"""Output checks: the model returns logits, deterministically and independently of the batch, and memorises no image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import Eot, is_random
from parapet.attacks.audit.context import AuditContext, state_digest
from parapet.attacks.audit.verdicts import SIGNIFICANCE, Result, mean, result
from parapet.attacks.balls import distance
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, predict
from parapet.attacks.model_contract import ROUNDING, observe
from parapet.attacks.noise import derived
from parapet.intervals import sign_test

# How many single draws of a random model are tested, and how far below the mean over draws their accuracy may lie.
_SINGLE, _DRAWS_FAIL = 10, 0.1
# With fewer images a paired test hardly reaches 1 %.
_ENOUGH = 30
# Honest networks keep their robustness, up to 15 points, on one of the two kinds of mixtures at least. With a large eps
# a mean of two images is grey enough to be within reach of other classes; on small images two halves hardly fit.
_MEMORY_WARNS, _MEMORY_FAILS = 0.25, 0.4


def well_formed(context: AuditContext) -> Result:
    """Outputs are finite logits, the same in repeated passes, after other queries and in any batch; attacks stay in
    their ball."""
    seen = observe(context.model, context.images, context.logits)
    points = pgd(context.model, context.images, context.labels, eps=context.eps, norm=context.norm, steps=3,
                 generator=context.seeds)
    outside = float((distance(points.float(), context.images, context.norm) - context.eps).clamp(min=0).max())
    numbers = {"largest_change_of_repeated_passes": seen.drift, "largest_change_with_the_batch": seen.batch_effect,
               "rows_sum_to_one": seen.probabilities, "outside_the_ball": outside}

    def fail(advice: str) -> Result:
        return result("well_formed", "fail", numbers, advice)
    if seen.probabilities:
        return fail("The model returns probabilities, whose cross-entropy has almost no gradient; return logits.")
    if not context.logits.isfinite().all() or outside > 0:
        return fail("The model returns values that are not finite, or attacks leave their ball; correct that first.")
    if state_digest(context.model) != context.state:
        words = ("The model's parameters or buffers changed while it was queried, so no number holds for it; freeze "
                 "them.")
        return fail(words) if seen.drift > ROUNDING else result("well_formed", "warn", numbers, words)
    if is_random(context.model) and context.tried:
        numbers["mean_of_draws"], numbers["single_draws"] = draw_accuracies(context)
        if numbers["mean_of_draws"] - numbers["single_draws"] > _DRAWS_FAIL:
            return fail("The model is declared random, and a single draw of it is far less robust than the mean over "
                        "its draws, for which the numbers hold; serve the mean, or report the accuracy of single "
                        "draws.")
    if seen.drift > ROUNDING and is_random(context.model):
        return result("well_formed", "warn", numbers, "The model is declared random, and its numbers hold for the mean "
                      "over its draws; report the number of draws.")
    if seen.drift > ROUNDING:
        return fail("Repeated passes over the same images differ, at once or after other queries; declare the "
                    "randomness and attack its expectation (Eot), or remove the model's memory.")
    if seen.batch_effect > ROUNDING:
        return fail("The answer to an image depends on the other images of its batch, so every number depends on the "
                    "batch; use fixed statistics.")
    if len(context.labels) < _ENOUGH:
        return result("well_formed", "warn", numbers, f"The model classifies only {len(context.labels)} images "
                      "correctly, too few to tell chance from masking; audit more images, of which it classifies at "
                      f"least {_ENOUGH} correctly.")
    return result("well_formed", "pass", numbers, "Deterministic logits, the same in any batch.")


def draw_accuracies(context: AuditContext) -> tuple[float, float]:
    """(robust accuracy of a random model's mean over draws, lowest average accuracy of its single draws), on the points
    of all attacks so far; single draws also on those of a PGD that weights all draws equally."""
    labels, rows = context.labels[context.copied_rows], context.copied_rows
    with _eot_attributes(context.model, evenly=True):
        points = pgd(context.model, context.images[rows], labels, eps=context.eps, norm=context.norm,
                     steps=context.budget.pgd_steps, loss="margin", generator=derived(context.seeds[rows], 72))
    whole = [mean(predict(context.model, tried) == labels) for tried in context.tried]
    with _eot_attributes(context.model, draws=1):
        single = [mean(torch.stack([predict(context.model, tried) == labels for _ in range(_SINGLE)]))
                  for tried in [*context.tried, points]]
    return min(whole), min(single)


@contextmanager
def _eot_attributes(model: Model, **attributes: Any) -> Iterator[None]:
    """In this block every `Eot` of the model has these attributes."""
    randoms = [module for module in cast(nn.Module, model).modules() if isinstance(module, Eot)]
    before = [{name: getattr(module, name) for name in attributes} for module in randoms]
    try:
        for module in randoms:
            vars(module).update(attributes)
        yield
    finally:
        for module, values in zip(randoms, before):
            vars(module).update(values)


def memory(context: AuditContext) -> Result:
    """Unseen images are as robust as those of the data set; the unseen images are mixtures of two of the same class.

    A model that recognises the images of the evaluation, or those of its first queries, can protect just these. The
    check passes if one of two kinds of mixtures is robust: the mean of two images, or a half of each.
    """
    rows, partners = _pairs(context.labels)
    one, other = context.images[rows], context.images[partners]
    half = one.shape[3] // 2
    kinds = {"means": (one + other) / 2, "halves": torch.cat([one[..., :half], other[..., half:]], dim=3)}
    numbers: dict[str, Any] = {}
    verdicts = []
    for kind, mixed in kinds.items():
        fresh = (predict(context.model, mixed) == context.labels[rows]) \
            & (distance(mixed, one, context.norm) > context.eps) \
            & (distance(mixed, other, context.norm) > context.eps) if len(rows) else rows.bool()
        numbers[kind] = int(fresh.sum())
        if numbers[kind] < _ENOUGH // 2:
            continue
        labels = context.labels[rows[fresh]]
        points = pgd(context.model, mixed[fresh], labels, eps=context.eps, norm=context.norm,
                     steps=context.budget.pgd_steps, loss="margin", early_stop=True,
                     generator=derived(context.seeds[rows[fresh]], 71))
        stands, known = predict(context.model, points) == labels, context.pgd_margin[rows[fresh]]
        gap, p_value = mean(known) - mean(stands), sign_test(int((known & ~stands).sum()), int((~known & stands).sum()))
        numbers |= {f"images_of_{kind}": mean(known), f"robust_{kind}": mean(stands), f"gap_{kind}": gap,
                    f"p_value_{kind}": p_value}
        if gap <= _MEMORY_WARNS:
            return result("memory", "pass", numbers, "Unseen images are as robust as those of the data set.")
        verdicts.append("fail" if gap > _MEMORY_FAILS and p_value < SIGNIFICANCE else "warn")
    if not verdicts:
        return result("memory", "pass", numbers, "Not tested: too few mixtures of images are classified correctly and "
                      "lie outside the balls of both images.")
    return result("memory", "warn" if "warn" in verdicts else "fail", numbers, "Images of the data set are robust and "
                  "mixtures of them are not, so the model may have memorised these images; audit it on others.")


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(images (m,), another image of the same class for each (m,))."""
    order = labels.argsort(stable=True)
    same = labels[order[:-1]] == labels[order[1:]]
    return order[:-1][same], order[1:][same]
