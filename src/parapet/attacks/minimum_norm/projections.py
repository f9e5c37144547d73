"""The shortest move to a hyperplane that stays inside the box [0, 1], in L-inf and in L2.

Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", problem 3; they
sort the break points. Here t is the common bound on the move of every pixel (L-inf), or the multiplier of the
hyperplane (L2), and <normal, move> is a concave, piecewise linear function of t. Newton's method from t = 0 approaches
the smallest solution from below, is exact after as many steps as it meets linear pieces, and needs no sort.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Five steps reach the solution in float32 even in adverse cases. On CUDA all steps are made, because a test of
# convergence would synchronise.
_NEWTON_STEPS = 8
_TINY = 1e-12


def shortest_move(points: Tensor, normals: Tensor, gaps: Tensor, norm: str) -> Tensor:
    """The move of least `norm` with <normal, move> = gap and points + move in [0, 1].

    points, normals: (N, D), points in [0, 1]; gaps: (N,). Returns (N, D): the move that comes closest to the hyperplane
    if the box does not reach it.
    """
    # Normals are scaled to a largest entry of 1, so that the result does not depend on the scale of the logits.
    steepest = normals.abs().amax(1)
    flat = steepest == 0
    ascending = normals / torch.where(flat, 1, steepest * torch.where(gaps < 0, -1.0, 1.0))[:, None]
    sign = ascending.sign()
    room = 0.5 - (points - 0.5) * sign
    weights = ascending.abs()
    limits = weights * room
    # Beyond the reach of the box all hyperplanes give the same move; this bounds the gap.
    gaps = torch.minimum(gaps.abs() / torch.where(flat, 1, steepest), 2 * limits.sum(1))
    # A pixel moves by min(t, room) in L-inf and by min(t * weight, room) in L2.
    if norm == "linf":
        return torch.minimum(room, _solve(weights, limits, room, gaps)) * sign
    bound = _solve(weights * weights, limits, room / weights.clamp(min=_TINY), gaps)
    return torch.minimum(room, bound * weights) * sign


def _solve(slopes: Tensor, limits: Tensor, ends: Tensor, gaps: Tensor) -> Tensor:
    """The smallest t >= 0 with sum_i (slopes_i t where t < ends_i, else limits_i) = gap, (N, 1); large if none.

    slopes, limits, ends: (N, D), limits_i = slopes_i ends_i >= 0.
    """
    totals, full = slopes.sum(1), torch.empty_like(slopes)
    bound = gaps / totals.clamp(min=_TINY)
    for _ in range(_NEWTON_STEPS):
        torch.le(ends, bound[:, None], out=full)
        spent, reached = torch.linalg.vecdot(slopes, full), torch.linalg.vecdot(limits, full)
        further = torch.maximum(bound, (gaps - reached) / (totals - spent).clamp(min=_TINY))
        if not slopes.is_cuda and torch.equal(further, bound):
            break  # converged
        bound = further
    return bound[:, None]
