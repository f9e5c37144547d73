"""The deployed input: pixels of 8 bits, one image at a time. Looked at with passes alone, attacked where they jump."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parapet.attacks.adaptive import is_random
from parapet.attacks.audit.otherwise import stands_as, with_room
from parapet.attacks.audit.scene import Scene, audited_rows
from parapet.attacks.audit.verdicts import Result, gap, mean, result
from parapet.attacks.audit.views import IN_STEPS, LEVELS, VARIATIONS, rounded, variation_of
from parapet.attacks.balls import ball, widest
from parapet.attacks.inputs import Model, answers, ask, frozen
from parapet.attacks.model_contract import ROUNDING
from parapet.attacks.noise import derived, uniform
from parapet.errors import ParapetError, is_of_the_machine

# Points of the ball that each image is looked at in, and shifts as small as rounding that rounding is measured against.
_PLACES, _SHIFTS = 2, 4
# A jump is so many times the largest of those shifts, and this share of the spread of the logits.
_TIMES, _SHARE = 10.0, 0.1
# Other steps between black and white that pixels come in: the size of the shifts that these are measured against (one
# part of so many), and the steps. A model that is another one there is so at most points; filters jump at a few.
_STEPS = {LEVELS: (256, 1023, 4095), 63: (63, 64, 100, 127, 128), 15: (15, 16, 31, 32)}
_MOST = 0.5


@torch.no_grad()
def deployed(scene: Scene) -> Result:
    """The answer does not change when the image comes alone or as a service asks, nor jump when its pixels are rounded
    to 8 bits, or to other steps that pixels come in.

    Honest layers that round jump too (a filter of few grey levels), so what jumps is attacked on such pixels, and the
    verdict is about what falls there.
    """
    rows = audited_rows(scene.labels, scene.budget.deployed_images, seed=1)
    images, seeds = scene.images[rows], scene.seeds[rows]
    around = ball(images.repeat(_PLACES, 1, 1, 1), with_room(scene, 0.5), scene.norm)

    def noise(stream: int, draw: int = 0) -> Tensor:
        return torch.cat([uniform(derived(seeds, stream + place), images.shape[1:], draw) for place in range(_PLACES)])
    points = around.start(noise(91))
    grid = rounded(points)
    with frozen(scene.model):  # as attacks ask
        logits = answers(scene.model, points)
        spread = max(float(logits.double().std()), torch.finfo(logits.dtype).tiny)
        alone = torch.cat([ask(scene.model, point[None]) for point in (*points, *grid)])
        company = float((alone - torch.cat([logits, answers(scene.model, grid)])).abs().max()) / spread
    served, apart = _as_served(scene.model, points, grid, logits, alone[len(points):])
    # Steps that are wider than the ball are none inside it.
    coarsest = widest(images, scene.norm) / scene.eps
    jumps = _jumps(scene.model, points, logits, _SHARE * spread, coarsest, [
        around.project(points + (noise(101, draw) - 0.5) / LEVELS) - points for draw in range(_SHIFTS)])
    numbers = {"images": len(rows), "largest_change_alone": company,
               "largest_change_as_served": None if served is None else served / spread,
               "jumps_when_rounded": jumps[LEVELS]}
    if is_random(scene.model):  # and what was measured above is its draws
        return result("deployed", "pass", numbers, "The model says that it is random, so its answers differ with each "
                      "draw, and nothing is known against it here.")
    if company > ROUNDING:
        numbers |= {"one_at_a_time": mean(stands_as(scene, rows, VARIATIONS["one at a time"]))}
        return result("deployed", "fail", numbers, "The answer to an image changes when it comes alone, so whoever is "
                      "served one image at a time meets another model than the one that the suite attacked.")
    if served is not None and served / spread > ROUNDING:
        numbers |= {apart.replace(" ", "_"): mean(stands_as(scene, rows, VARIATIONS[apart]))}
        return result("deployed", "fail", numbers, "The answer to an image is another one as a service may ask (in a "
                      "thread of its own, in torch.inference_mode, with parameters that are not frozen), so whoever is "
                      "served meets another model than the one that the suite attacked.")
    falling = [name for levels, name in _named(jumps).items() if jumps[levels] > (0 if levels == LEVELS else _MOST)]
    if not falling:
        return result("deployed", "pass", numbers, "Served one at a time and as 8-bit pixels it answers alike.")
    rows = audited_rows(scene.labels, scene.budget.varied_images, seed=1)
    before = stands_as(scene, rows, VARIATIONS["as before"])
    after = {name: stands_as(scene, rows, variation_of(name)) for name in falling}
    numbers |= {"as_before": mean(before)} | {name: mean(stands) for name, stands in after.items()}
    worst = min(falling, key=lambda name: mean(after[name]))
    return gap("deployed", before, after[worst], numbers, f"On {worst}, as images are served, the model falls where it "
               "stands on all others, so whoever sends it files meets another model than the one that the suite "
               "attacked.")


def _named(jumps: dict[int, float]) -> dict[int, str]:
    """The variation in which pixels come in so many steps."""
    return {levels: "8-bit pixels" if levels == LEVELS else f"{IN_STEPS}{levels}" for levels in jumps}


def _jumps(model: Model, points: Tensor, logits: Tensor, threshold: float, coarsest: float,
           shifts: Sequence[Tensor]) -> dict[int, float]:
    """The share of the `points` (n, C, H, W) whose `logits` (n, classes) jump, by the number of steps between black and
    white to which they are rounded, at least `coarsest`: by more than `threshold` and more than by any of the `shifts`,
    which are as large as rounding to 8 bits is, or as much larger as the steps are."""
    found = {}
    for size, all_steps in _STEPS.items():
        steps = [levels for levels in all_steps if levels >= coarsest]
        if not steps and size != LEVELS:
            continue
        with frozen(model):
            moved = torch.stack([_change(model, (points + LEVELS / size * shift).clamp(0, 1), logits)
                                 for shift in shifts]).amax(0)
            for levels in [LEVELS, *steps] if size == LEVELS else steps:
                jump = _change(model, rounded(points, levels), logits)
                found[levels] = mean((jump > _TIMES * moved) & (jump > threshold))
    return found


def _change(model: Model, points: Tensor, logits: Tensor) -> Tensor:
    return (answers(model, points) - logits).abs().amax(1)


def _as_served(model: Model, points: Tensor, grid: Tensor, logits: Tensor,
               alone: Tensor) -> tuple[float | None, str]:
    """(the largest change of an answer as a service asks, the variation in which it is): of `points` in company, whose
    answers are `logits`, and of the `grid` points alone; None of a model that needs gradients to answer."""
    found = []
    for name, images, known in (("in inference mode", points, logits), ("as served", grid, alone)):
        try:
            found.append((float((VARIATIONS[name].asked(model)(images) - known).abs().max()), name))
        except Exception as error:  # a model's own code may raise anything there
            if isinstance(error, ParapetError) or is_of_the_machine(error):
                raise
            return None, name
    return max(found)
