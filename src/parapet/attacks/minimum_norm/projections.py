"""The shortest move to a hyperplane that stays inside the box [0, 1], in L-inf and in L2.

Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", problem 3 (they
sort the break points). Here: with t the common bound on every pixel's move (L-inf), or the multiplier of the
hyperplane (L2), what the move reaches is a concave, piecewise linear function of t. Newton's method from t = 0
approaches the smallest solution from below, is exact after as many steps as it meets linear pieces, and needs no sort.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Five steps reach the solution to float32 even on adverse draws. On CUDA all are made: to ask whether they have
# converged would synchronise.
_NEWTON_STEPS = 8
_TINY = 1e-12


def shortest_move(points: Tensor, normals: Tensor, gaps: Tensor, norm: str) -> Tensor:
    """The move of least `norm` with <normal, move> = gap and points + move in [0, 1].

    points, normals: (N, D), points in [0, 1]; gaps: (N,). Where the box does not meet the hyperplane, the move that
    comes closest to it. Returns (N, D).
    """
    # With a largest entry of 1, so that where the hyperplane lies does not depend on the scale of the logits.
    steepest = normals.abs().amax(1)
    flat = steepest == 0
    ascending = normals / torch.where(flat, 1, steepest * torch.where(gaps < 0, -1.0, 1.0))[:, None]
    sign = ascending.sign()
    room = 0.5 - (points - 0.5) * sign
    weights = ascending.abs()
    limits = weights * room
    # A hyperplane twice as far as the box reaches is as good as any further one.
    gaps = torch.minimum(gaps.abs() / torch.where(flat, 1, steepest), 2 * limits.sum(1))
    # A pixel moves by min(t, room) in L-inf and by min(t * weight, room) in L2.
    if norm == "linf":
        return torch.minimum(room, _solve(weights, limits, room, gaps)) * sign
    bound = _solve(weights * weights, limits, room / weights.clamp(min=_TINY), gaps)
    return torch.minimum(room, bound * weights) * sign


def _solve(slopes: Tensor, limits: Tensor, ends: Tensor, gaps: Tensor) -> Tensor:
    """The smallest t >= 0 with sum_i (slopes_i t where t < ends_i, else limits_i) = gap, as (N, 1); large where none.

    slopes, limits, ends: (N, D), limits_i = slopes_i ends_i >= 0.
    """
    totals, full = slopes.sum(1), torch.empty_like(slopes)
    bound = gaps / totals.clamp(min=_TINY)
    for _ in range(_NEWTON_STEPS):
        torch.le(ends, bound[:, None], out=full)
        spent, reached = torch.linalg.vecdot(slopes, full), torch.linalg.vecdot(limits, full)
        further = torch.maximum(bound, (gaps - reached) / (totals - spent).clamp(min=_TINY))
        if not slopes.is_cuda and torch.equal(further, bound):
            break  # a fixed point: the steps left would change nothing
        bound = further
    return bound[:, None]
