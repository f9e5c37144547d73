"""The check of the deployed input: 8-bit pixels, one image at a time, queried as a service does.

Forward passes compare the answers; attacks run only where the answers jump.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parapet.attacks.adaptive import is_random
from parapet.attacks.audit.context import AuditContext, audited_rows
from parapet.attacks.audit.variation_check import reduced_radius, survivors_under
from parapet.attacks.audit.variations import IN_STEPS, LEVELS, VARIATIONS, quantise, variation_named
from parapet.attacks.audit.verdicts import Result, judge_gap, mean, result
from parapet.attacks.balls import ball, widest
from parapet.attacks.inputs import Model, answers, ask, frozen
from parapet.attacks.model_contract import ROUNDING
from parapet.attacks.noise import derived, uniform
from parapet.errors import ParapetError, is_of_the_machine

# Points of the ball of each image, and small random shifts that the effect of rounding is compared with.
_POINTS, _SHIFTS = 2, 4
# An answer jumps if it changes by more than so many times the effect of the largest shift, and by this share of the
# standard deviation of the logits.
_TIMES, _SHARE = 10.0, 0.1
# Other numbers of steps between black and white that pixels come in, by the size of the shifts (1 / number) that they
# are compared with. A model that is a different one there jumps at most points; honest filters jump at a few.
_STEPS = {LEVELS: (256, 1023, 4095), 63: (63, 64, 100, 127, 128), 15: (15, 16, 31, 32)}
_MOST = 0.5


@torch.no_grad()
def deployed(context: AuditContext) -> Result:
    """Answers do not change when an image comes alone or as a service queries it, and do not jump when its pixels are
    rounded to 8 bits or to other common numbers of steps.

    Honest layers that round jump as well (a filter to few grey levels). So a jump alone is no finding: the model is
    attacked on such pixels, and the verdict is about the images that are broken there.
    """
    rows = audited_rows(context.labels, context.budget.deployed_images, seed=1)
    images, seeds = context.images[rows], context.seeds[rows]
    around = ball(images.repeat(_POINTS, 1, 1, 1), reduced_radius(context, 0.5), context.norm)

    def noise(stream: int, draw: int = 0) -> Tensor:
        return torch.cat([uniform(derived(seeds, stream + place), images.shape[1:], draw) for place in range(_POINTS)])
    points = around.start(noise(91))
    grid = quantise(points)
    with frozen(context.model):  # the query mode of attacks
        logits = answers(context.model, points)
        spread = max(float(logits.double().std()), torch.finfo(logits.dtype).tiny)
        alone = torch.cat([ask(context.model, point[None]) for point in (*points, *grid)])
        change_alone = float((alone - torch.cat([logits, answers(context.model, grid)])).abs().max()) / spread
    served, mode = _change_as_served(context.model, points, grid, logits, alone[len(points):])
    # Steps wider than the ball are no steps inside it.
    coarsest = widest(images, context.norm) / context.eps
    jumps = _jumps(context.model, points, logits, _SHARE * spread, coarsest, [
        around.project(points + (noise(101, draw) - 0.5) / LEVELS) - points for draw in range(_SHIFTS)])
    numbers = {"images": len(rows), "largest_change_alone": change_alone,
               "largest_change_as_served": None if served is None else served / spread,
               "jumps_when_rounded": jumps[LEVELS]}
    if is_random(context.model):  # what was measured above are differences between its draws
        return result("deployed", "pass", numbers, "Not tested: the model is declared random, so its answers differ "
                      "from draw to draw.")
    if change_alone > ROUNDING:
        numbers |= {"one_at_a_time": mean(survivors_under(context, rows, VARIATIONS["one at a time"]))}
        return result("deployed", "fail", numbers, "The answer to an image changes when it comes alone, so a service "
                      "that gets one image at a time uses a different model than the one that was attacked; do not "
                      "trust its robust accuracy.")
    if served is not None and served / spread > ROUNDING:
        numbers |= {mode.replace(" ", "_"): mean(survivors_under(context, rows, VARIATIONS[mode]))}
        return result("deployed", "fail", numbers, "The answer to an image changes when it is queried as a service may "
                      "do (in a thread of its own, in torch.inference_mode, with parameters that are not frozen), so a "
                      "service uses a different model than the one that was attacked; do not trust its robust "
                      "accuracy.")
    suspicious = ["8-bit pixels" if levels == LEVELS else f"{IN_STEPS}{levels}" for levels, share in jumps.items()
                  if share > (0 if levels == LEVELS else _MOST)]
    if not suspicious:
        return result("deployed", "pass", numbers, "Answers are the same for images served one at a time and as 8-bit "
                      "pixels.")
    rows = audited_rows(context.labels, context.budget.varied_images, seed=1)
    before = survivors_under(context, rows, VARIATIONS["as before"])
    after = {name: survivors_under(context, rows, variation_named(name)) for name in suspicious}
    numbers |= {"as_before": mean(before)} | {name: mean(stands) for name, stands in after.items()}
    worst = min(suspicious, key=lambda name: mean(after[name]))
    return judge_gap("deployed", before, after[worst], numbers, f"The model is less robust on {worst}, as images are "
                     "served, than on other pixel values, so a service that reads image files uses a different model "
                     "than the one that was attacked; do not trust its robust accuracy.")


def _jumps(model: Model, points: Tensor, logits: Tensor, threshold: float, coarsest: float,
           shifts: Sequence[Tensor]) -> dict[int, float]:
    """{number of steps: the share of `points` (n, C, H, W) whose `logits` (n, classes) jump when rounded to it}.

    An answer jumps if it changes by more than `threshold` and by far more than under any of the `shifts`, which are as
    large as rounding to 8 bits and are scaled to the width of the steps. Numbers of steps below `coarsest` are left
    out.
    """
    found = {}
    for size, all_steps in _STEPS.items():
        steps = [levels for levels in all_steps if levels >= coarsest]
        if not steps and size != LEVELS:
            continue
        with frozen(model):
            moved = torch.stack([_change(model, (points + LEVELS / size * shift).clamp(0, 1), logits)
                                 for shift in shifts]).amax(0)
            for levels in [LEVELS, *steps] if size == LEVELS else steps:
                jump = _change(model, quantise(points, levels), logits)
                found[levels] = mean((jump > _TIMES * moved) & (jump > threshold))
    return found


def _change(model: Model, points: Tensor, logits: Tensor) -> Tensor:
    return (answers(model, points) - logits).abs().amax(1)


def _change_as_served(model: Model, points: Tensor, grid: Tensor, logits: Tensor,
                      alone: Tensor) -> tuple[float | None, str]:
    """(the largest change of an answer when queried as a service, the variation in which it occurs).

    Compared are `points` in one batch, whose answers are `logits`, and the `grid` points one by one, whose answers are
    `alone`. None for a model that cannot answer in inference mode because it needs gradients.
    """
    found = []
    for name, images, known in (("in inference mode", points, logits), ("as served", grid, alone)):
        try:
            found.append((float((VARIATIONS[name].query(model)(images) - known).abs().max()), name))
        except Exception as error:  # a model's own code may raise anything there
            if isinstance(error, ParapetError) or is_of_the_machine(error):
                raise
            return None, name
    return max(found)
