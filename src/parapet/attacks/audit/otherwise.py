"""Check 13: the same model seen otherwise (views.py) stands as much.

A model that behaves otherwise while it is examined gives itself away where the examination is another one: a batch of
one image, pixels of 8 bits, a frame of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from parapet.attacks.adaptive import is_random, restart_draws
from parapet.attacks.audit.scene import Scene, audited_rows
from parapet.attacks.audit.verdicts import FAIL_GAP, SIGNIFICANCE, Result, mean, result
from parapet.attacks.audit.views import IN_BATCHES, LEVELS, VARIATIONS, Variation, changed_by, seen_as, variation_of
from parapet.attacks.balls import ball, widest
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import frozen, in_halves, predict
from parapet.attacks.model_contract import odd_batch
from parapet.attacks.noise import derived
from parapet.errors import ParapetError, is_of_the_machine
from parapet.intervals import sign_test

# Batches that a service may put together, and jobs of many images.
_SIZES = (*range(1, 129), 160, 200, 257, 320, 400, 512, 800, 1025, 2048)
# Memory, precision and mode are the program's; the other variations are ordinary images that any model has to answer.
_MAY_REFUSE = ("channels last", "not contiguous", "double precision", "half precision", "mixed precision",
               "in inference mode")
# The first is what the others are compared with; of the second the check `deployed` compares the answers.
_NOT_COMPARED = ("as before", "as served")


def variations(scene: Scene) -> Result:
    """The attack started from each harmless variation breaks what is broken without: gaps are of the same images."""
    rows = audited_rows(scene.labels, scene.budget.varied_images, seed=0)
    known = scene.standing[rows]  # what another check has broken already is no finding here
    plain = stands_as(scene, rows, VARIATIONS["as before"])
    numbers: dict[str, Any] = {"images": len(rows), "as_before": mean(plain)}
    found, refused = [], []
    for name, variation in VARIATIONS.items():
        if name in _NOT_COMPARED:
            continue
        try:
            if not variation.applies(scene, rows, variation):
                continue
            each = slice(None, None, variation.every)
            before, stands = plain[each], stands_as(scene, rows[each], variation)
        except Exception as error:  # a model's own code may raise anything where it is asked in an unusual way
            if isinstance(error, ParapetError) or (is_of_the_machine(error) and name not in _MAY_REFUSE):
                raise
            numbers[name] = None
            refused.append(name)
            continue
        p_value = sign_test(int((before & ~stands).sum()), int((~before & stands).sum()))
        numbers[name] = mean(stands)
        # As many questions are asked of the same images.
        if min(mean(before) - mean(stands), mean(known[each] & before & ~stands)) > FAIL_GAP and (
                p_value < SIGNIFICANCE / (len(VARIATIONS) - len(_NOT_COMPARED))):
            found.append(name)
    if not is_random(scene.model) and (size := odd_batch(scene.model, scene.images, scene.logits, _SIZES)):
        found.append(f"{IN_BATCHES}{size}")
        numbers[found[-1]] = mean(stands_as(scene, rows, variation_of(found[-1])))
    if found:
        return result("variations", "fail", numbers, f"The model falls where it is seen otherwise ({', '.join(found)}) "
                      "and stands where it is examined, so it behaves otherwise while it is examined; do not believe "
                      "its numbers.")
    if odd := [name for name in refused if name not in _MAY_REFUSE]:
        return result("variations", "warn", numbers, f"The model refuses to answer where it is seen otherwise "
                      f"({', '.join(odd)}), though these are ordinary images; find out why, for it cannot be attacked "
                      "there.")
    but = f"; it cannot be asked this way: {', '.join(refused)}" if refused else ""
    return result("variations", "pass", numbers, "The model falls no more where it is seen otherwise than where it is "
                  f"examined{but}.")


def with_room(scene: Scene, room: float) -> float:
    """The radius that is left where each pixel may be moved by `room` grey levels afterwards."""
    return max(scene.eps - 1.001 * room * widest(scene.images, scene.norm) / LEVELS, 0.5 * scene.eps)


def stands_as(scene: Scene, rows: Tensor, variation: Variation, attack: Callable[..., Tensor] | None = None) -> Tensor:
    """Which of the images `rows` the model gets right, asked and attacked under `variation`; bool (n,).

    The attack is that of the variation, or another one. What the model gets wrong there counts as broken, also where it
    gets it right in another company.
    """
    images, labels = scene.images[rows], scene.labels[rows]
    asked, model = variation.asked(scene.model), seen_as(scene.model, variation, images)
    restart_draws(scene.model, 81)
    with frozen(scene.model):
        chosen = attack or variation.attack or partial(pgd, steps=scene.budget.pgd_steps, loss="margin")

        def run(images: Tensor, labels: Tensor, seeds: Tensor) -> Tensor:
            return chosen(model, images, labels, eps=with_room(scene, variation.room), norm=scene.norm,
                          early_stop=True, generator=seeds)
        points = in_halves(run, images, labels, derived(scene.seeds[rows], 81))
        ends = ball(images, scene.eps, scene.norm).project(changed_by(variation, images)(points))
        stands = predict(asked, ends) == labels
    scene.condemn(rows, ends, ~stands)
    return stands
