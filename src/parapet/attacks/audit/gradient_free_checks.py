"""Gradient-free checks: attacks that use no gradient of the model must not beat those that do."""

from __future__ import annotations

import torch

from parapet.attacks.audit.context import AuditContext, audited_rows
from parapet.attacks.audit.verdicts import Result, judge_gap, mean, result
from parapet.attacks.balls import distance
from parapet.attacks.black_box.hop_skip_jump import hop_skip_jump
from parapet.attacks.black_box.random_noise import KINDS, random_noise
from parapet.attacks.black_box.square import square
from parapet.attacks.black_box.transfer import transfer as transfer_attack
from parapet.attacks.noise import derived

# On MNIST at eps 0.3 Square beats the white-box attacks by a point on honest networks; three points are masking.
_BLACK_BOX_FAILS = 0.03


def black_box(context: AuditContext) -> Result:
    """Square, and HopSkipJump on a part of the images, break nothing that the white-box attacks do not."""
    by_square = context.survivors(square, stream=51, among=context.white_box, queries=context.budget.square_queries)
    part = context.white_box.nonzero().squeeze(1)
    part = part[audited_rows(context.labels[part], context.budget.decision_images, seed=0)]
    by_decision = torch.ones_like(by_square)
    if len(part):
        points, _ = hop_skip_jump(context.model, context.images[part], context.labels[part], norm=context.norm,
                                  queries=context.budget.decision_queries, generator=derived(context.seeds[part], 52))
        inside = distance(points, context.images[part], context.norm) <= context.eps
        by_decision = context.try_points_at(part[inside], points[inside])
    after = context.white_box & by_square & by_decision
    numbers = {"white_box": mean(context.white_box), "with_square": mean(context.white_box & by_square),
               "with_both": mean(after), "queries": context.budget.square_queries, "decision_images": len(part)}
    return judge_gap("black_box", context.white_box, after, numbers, "Gradient-free attacks break images that "
                     "gradient-based attacks do not, so gradients are masked or the white-box attacks are too weak; "
                     "report the lower number.", fail=_BLACK_BOX_FAILS)


def transfer(context: AuditContext) -> Result:
    """Adversarial images of other models break nothing that the white-box attacks do not."""
    if not context.surrogates:
        return result("transfer", "warn", {"surrogates": 0}, "Not run, because no surrogate model was given; give "
                      "another member of the front or a network without adversarial training.")
    outcome = context.survivors(transfer_attack, stream=53, among=context.white_box, surrogate=list(context.surrogates))
    numbers = {"white_box": mean(context.white_box), "with_transfer": mean(context.white_box & outcome),
               "surrogates": len(context.surrogates)}
    return judge_gap("transfer", context.white_box, context.white_box & outcome, numbers, "Adversarial images of other "
                     "models break images that the model's own gradients do not, so these gradients are masked; report "
                     "the lower number.")


def noise(context: AuditContext) -> Result:
    """Uniform noise and noise at the corners of the ball break nothing that the white-box attacks do not."""
    outcomes = {kind: context.survivors(random_noise, stream=61 + place, among=context.white_box, kind=kind,
                                        draws=context.budget.noise_draws) for place, kind in enumerate(KINDS)}
    after = context.white_box & outcomes["uniform"] & outcomes["corner"]
    numbers = {"white_box": mean(context.white_box), "draws": context.budget.noise_draws,
               **{f"with_{kind}": mean(context.white_box & outcome) for kind, outcome in outcomes.items()}}
    return judge_gap("noise", context.white_box, after, numbers, "Random noise breaks images that gradient-based "
                     "attacks do not, so the gradients are of no use; attack without them.")
