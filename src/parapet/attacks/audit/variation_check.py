"""The check of variations: attacked under each of them (variations.py), the model survives as much.

A model that detects an evaluation and behaves differently in it is exposed where the variation hides the evaluation: a
batch of one image, 8-bit pixels, a frame of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from parapet.attacks.adaptive import is_random, restart_draws
from parapet.attacks.audit.context import AuditContext, audited_rows
from parapet.attacks.audit.variations import (
    IN_BATCHES,
    LEVELS,
    VARIATIONS,
    Variation,
    apply_variation,
    change_of,
    variation_named,
)
from parapet.attacks.audit.verdicts import FAIL_GAP, SIGNIFICANCE, Result, mean, result
from parapet.attacks.balls import ball, widest
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import frozen, in_halves, predict
from parapet.attacks.model_contract import differing_batch_size
from parapet.attacks.noise import derived
from parapet.errors import ParapetError, is_of_the_machine
from parapet.intervals import sign_test

# Batch sizes that a service may use, up to those of bulk jobs.
_SIZES = (*range(1, 129), 160, 200, 257, 320, 400, 512, 800, 1025, 2048)
# A model may fail under these, which change memory layout, precision or mode. All other variations are ordinary images,
# which a model has to answer.
_MAY_REFUSE = ("channels last", "not contiguous", "double precision", "half precision", "mixed precision",
               "in inference mode")
# The first is what the others are compared with; the check `deployed` compares the answers of the second.
_NOT_COMPARED = ("as before", "as served")


def variations(context: AuditContext) -> Result:
    """The attack under each variation breaks no more than without; gaps are between the same images."""
    rows = audited_rows(context.labels, context.budget.varied_images, seed=0)
    known = context.standing[rows]  # what another check has already broken is no finding here
    plain = survivors_under(context, rows, VARIATIONS["as before"])
    numbers: dict[str, Any] = {"images": len(rows), "as_before": mean(plain)}
    found, refused = [], []
    for name, variation in VARIATIONS.items():
        if name in _NOT_COMPARED:
            continue
        try:
            if not variation.applies(context, rows, variation):
                continue
            each = slice(None, None, variation.every)
            before, stands = plain[each], survivors_under(context, rows[each], variation)
        except Exception as error:  # a model's own code may raise anything where it is queried in an unusual way
            if isinstance(error, ParapetError) or (is_of_the_machine(error) and name not in _MAY_REFUSE):
                raise
            numbers[name] = None
            refused.append(name)
            continue
        p_value = sign_test(int((before & ~stands).sum()), int((~before & stands).sum()))
        numbers[name] = mean(stands)
        # Bonferroni correction: all variations are tested on the same images.
        if min(mean(before) - mean(stands), mean(known[each] & before & ~stands)) > FAIL_GAP and (
                p_value < SIGNIFICANCE / (len(VARIATIONS) - len(_NOT_COMPARED))):
            found.append(name)
    size = None if is_random(context.model) else differing_batch_size(context.model, context.images, context.logits,
                                                                      _SIZES)
    if size is not None:
        found.append(f"{IN_BATCHES}{size}")
        numbers[found[-1]] = mean(survivors_under(context, rows, variation_named(found[-1])))
    if found:
        return result("variations", "fail", numbers, "The model is less robust, or answers differently, under "
                      f"variations that should change nothing ({', '.join(found)}), so it behaves differently while it "
                      "is evaluated; do not trust its robust accuracy.")
    if odd := [name for name in refused if name not in _MAY_REFUSE]:
        return result("variations", "warn", numbers, f"The model raises an error on ordinary images under variations "
                      f"({', '.join(odd)}), so it cannot be attacked there; find out why.")
    refusals = f"; it cannot be queried in these ways: {', '.join(refused)}" if refused else ""
    return result("variations", "pass", numbers, "The model is as robust under all variations as in the evaluation"
                  f"{refusals}.")


def reduced_radius(context: AuditContext, room: float) -> float:
    """The radius that is left if each pixel may be moved by `room` grey levels afterwards."""
    return max(context.eps - 1.001 * room * widest(context.images, context.norm) / LEVELS, 0.5 * context.eps)


def survivors_under(context: AuditContext, rows: Tensor, variation: Variation,
                    attack: Callable[..., Tensor] | None = None) -> Tensor:
    """Which of the images `rows` survive `attack`, by default that of the variation, under `variation`; bool (n,).

    An image that the model misclassifies there counts as broken, even if it classifies it correctly in the usual query
    mode.
    """
    images, labels = context.images[rows], context.labels[rows]
    query, model = variation.query(context.model), apply_variation(context.model, variation, images)
    restart_draws(context.model, 81)
    with frozen(context.model):
        chosen = attack or variation.attack or partial(pgd, steps=context.budget.pgd_steps, loss="margin")

        def run(images: Tensor, labels: Tensor, seeds: Tensor) -> Tensor:
            return chosen(model, images, labels, eps=reduced_radius(context, variation.room), norm=context.norm,
                          early_stop=True, generator=seeds)
        points = in_halves(run, images, labels, derived(context.seeds[rows], 81))
        ends = ball(images, context.eps, context.norm).project(change_of(variation, images)(points))
        stands = predict(query, ends) == labels
    context.mark_broken(rows, ends, ~stands)
    return stands
