"""What changes from step to step: learning rate and training radius."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int, peak: float, *, warm_up: float = 0.3, start: float = 1 / 25,
              end: float = 1e-4) -> float:
    """Learning rate at `step` of `steps`: cosine from start*peak up to peak, then down to end*start*peak.

    Smith and Topin 2018, "Super-Convergence"; the shape is that of torch's OneCycleLR.
    """
    turn = max(1.0, warm_up * steps)
    if step < turn:
        low, high, share = start * peak, peak, step / turn
    else:
        low, high, share = peak, end * start * peak, (step - turn) / max(1.0, steps - turn)
    return low + (high - low) * (1 - math.cos(math.pi * min(1.0, share))) / 2


def ramp(step: int, steps: int, share: float) -> float:
    """Factor in (0, 1] that grows linearly over the first `share` of `steps`, then stays at 1."""
    length = share * steps
    return 1.0 if length <= 0 else min(1.0, (step + 1) / length)
