"""The deployed input: pixels of 8 bits, one image at a time. Looked at with passes alone, attacked where they jump."""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.adaptive import is_random
from parapet.attacks.audit.otherwise import stands_as, with_room
from parapet.attacks.audit.scene import Scene, audited_rows
from parapet.attacks.audit.verdicts import Result, gap, mean, result
from parapet.attacks.audit.views import LEVELS, VARIATIONS
from parapet.attacks.balls import ball
from parapet.attacks.behaviour import ROUNDING
from parapet.attacks.inputs import Model, answers, ask
from parapet.attacks.noise import derived, uniform
from parapet.errors import ParapetError, is_of_the_machine

# Points of the ball that each image is looked at in, and shifts as small as rounding that rounding is measured against.
_PLACES, _SHIFTS = 2, 4
# A jump is so many times the largest of those shifts, and this share of the spread of the logits.
_TIMES, _SHARE = 10.0, 0.1


@torch.no_grad()
def deployed(scene: Scene) -> Result:
    """The answer does not change when the image comes alone or nobody can ask for a gradient, nor jump when its pixels
    are rounded to 8 bits.

    Honest layers that round jump too (a filter of few grey levels), so what jumps is attacked on 8-bit pixels, and the
    verdict is about what falls there.
    """
    rows = audited_rows(scene.labels, scene.budget.deployed_images, seed=1)
    images, seeds = scene.images[rows], scene.seeds[rows]
    around = ball(images.repeat(_PLACES, 1, 1, 1), with_room(scene, 0.5), scene.norm)

    def noise(stream: int, draw: int = 0) -> Tensor:
        return torch.cat([uniform(derived(seeds, stream + place), images.shape[1:], draw) for place in range(_PLACES)])
    points = around.start(noise(91))
    rounded = (points * LEVELS).round() / LEVELS
    logits = answers(scene.model, points)
    spread = max(float(logits.double().std()), torch.finfo(logits.dtype).tiny)
    alone = torch.cat([ask(scene.model, point[None]) for point in (*points, *rounded)])
    company = float((alone - torch.cat([logits, answers(scene.model, rounded)])).abs().max()) / spread
    served, apart = _in_inference_mode(scene.model, points, rounded, logits, alone[len(points):])
    jump = (alone[len(points):] - logits).abs().amax(1)
    shifts = torch.zeros_like(jump)
    for draw in range(_SHIFTS):
        shifted = around.project(points + (noise(101, draw) - 0.5) / LEVELS)
        shifts = torch.maximum(shifts, (answers(scene.model, shifted) - logits).abs().amax(1))
    jumps = mean((jump > _TIMES * shifts) & (jump > _SHARE * spread))
    numbers = {"images": len(rows), "largest_change_alone": company,
               "largest_change_in_inference_mode": None if served is None else served / spread,
               "jumps_when_rounded": jumps}
    if is_random(scene.model):  # and what was measured above is its draws
        return result("deployed", "pass", numbers, "The model says that it is random, so its answers differ with each "
                      "draw, and nothing is known against it here.")
    if company > ROUNDING:
        numbers |= {"one_at_a_time": mean(stands_as(scene, rows, VARIATIONS["one at a time"]))}
        return result("deployed", "fail", numbers, "The answer to an image changes when it comes alone, so whoever is "
                      "served one image at a time meets another model than the one that the suite attacked.")
    if served is not None and served / spread > ROUNDING:
        numbers |= {apart.replace(" ", "_"): mean(stands_as(scene, rows, VARIATIONS[apart]))}
        return result("deployed", "fail", numbers, "The answer to an image is another one in torch.inference_mode, as "
                      "a service may ask, so whoever is served meets another model than the one that the suite "
                      "attacked.")
    if jumps == 0:
        return result("deployed", "pass", numbers, "Served one at a time and as 8-bit pixels it answers alike.")
    rows = audited_rows(scene.labels, scene.budget.varied_images, seed=1)
    before, after = (stands_as(scene, rows, VARIATIONS[name]) for name in ("as before", "8-bit pixels"))
    numbers |= {"as_before": mean(before), "8_bit_pixels": mean(after)}
    return gap("deployed", before, after, numbers, "On 8-bit pixels, as images are served, the model falls where it "
               "stands on all others, so whoever sends it files meets another model than the one that the suite "
               "attacked.")


def _in_inference_mode(model: Model, points: Tensor, rounded: Tensor, logits: Tensor,
                       alone: Tensor) -> tuple[float | None, str]:
    """(the largest change of an answer in torch.inference_mode, the variation in which it is): of `points` in company,
    whose answers are `logits`, and of `rounded` points alone; None of a model that needs gradients to answer."""
    found = []
    for name, images, known in (("in inference mode", points, logits), ("as served", rounded, alone)):
        try:
            found.append((float((VARIATIONS[name].asked(model)(images) - known).abs().max()), name))
        except Exception as error:  # a model's own code may raise anything there
            if isinstance(error, ParapetError) or is_of_the_machine(error):
                raise
            return None, name
    return max(found)
