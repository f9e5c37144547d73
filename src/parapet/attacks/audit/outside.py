"""Checks 7, 8 and 9: attacks that use no gradient of the model must not beat those that do."""

from __future__ import annotations

import torch

from parapet.attacks.audit.scene import Scene, audited_rows
from parapet.attacks.audit.verdicts import Result, gap, mean, result
from parapet.attacks.balls import distance
from parapet.attacks.black_box.hop_skip_jump import hop_skip_jump
from parapet.attacks.black_box.random_noise import KINDS, random_noise
from parapet.attacks.black_box.square import square
from parapet.attacks.black_box.transfer import transfer as transfer_attack
from parapet.attacks.noise import derived

# On MNIST at 0.3 Square beats the white box by a point on honest nets; a few points more are masking.
_BLACK_BOX_FAILS = 0.03


def black_box(scene: Scene) -> Result:
    """Check 7: Square, and HopSkipJump on a part of the images, break nothing that the white box does not."""
    by_square = scene.survives(square, stream=51, among=scene.white, queries=scene.budget.square_queries)
    part = scene.white.nonzero().squeeze(1)
    part = part[audited_rows(scene.labels[part], scene.budget.decision_images, seed=0)]
    by_decision = torch.ones_like(by_square)
    if len(part):
        points, _ = hop_skip_jump(scene.model, scene.images[part], scene.labels[part], norm=scene.norm,
                                  queries=scene.budget.decision_queries, generator=derived(scene.seeds[part], 52))
        inside = distance(points, scene.images[part], scene.norm) <= scene.eps
        tried = scene.images.clone()
        tried[part[inside]] = points[inside]
        by_decision = scene.judge(tried)
    after = scene.white & by_square & by_decision
    numbers = {"white_box": mean(scene.white), "with_square": mean(scene.white & by_square),
               "with_both": mean(after), "queries": scene.budget.square_queries, "decision_images": len(part)}
    return gap("black_box", scene.white, after, numbers, "Attacks without gradients break images that those with them "
               "do not, so gradients are masked or the white box is too weak; store the lower number.",
               fail=_BLACK_BOX_FAILS)


def transfer(scene: Scene) -> Result:
    """Check 8: images made on other models break nothing that the white box does not."""
    if not scene.surrogates:
        return result("transfer", "warn", {"surrogates": 0}, "Not run, because no surrogate was given; give another "
                      "member of the front or a naturally trained net.")
    outcome = scene.survives(transfer_attack, stream=53, among=scene.white, surrogate=list(scene.surrogates))
    numbers = {"white_box": mean(scene.white), "with_transfer": mean(scene.white & outcome),
               "surrogates": len(scene.surrogates)}
    return gap("transfer", scene.white, scene.white & outcome, numbers, "Images made on other models break what the "
               "model's own gradients do not; those gradients are masked, so store the lower number.")


def noise(scene: Scene) -> Result:
    """Check 9: uniform and corner noise is a floor that no gradient attack may miss."""
    outcomes = {kind: scene.survives(random_noise, stream=61 + place, among=scene.white, kind=kind,
                                     draws=scene.budget.noise_draws) for place, kind in enumerate(KINDS)}
    after = scene.white & outcomes["uniform"] & outcomes["corner"]
    numbers = {"white_box": mean(scene.white), "draws": scene.budget.noise_draws,
               **{f"with_{kind}": mean(scene.white & outcome) for kind, outcome in outcomes.items()}}
    return gap("noise", scene.white, after, numbers, "Random noise breaks images that gradients did not; the gradients "
               "are of no use, so attack without them.")
