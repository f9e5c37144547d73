"""Schedules of the learning rate, the functions that `parapet.config.SCHEDULES` names, and of the training radius."""

from __future__ import annotations

import math

# Shares of the run after which a piecewise rate falls to a tenth (Rice et al. 2020: epochs 100 and 150 of 200).
_FALLS = (0.5, 0.75)
# A triangular rate peaks at this share of the run (Wong et al. 2020, "Fast is better than free": two fifths).
_TRIANGLE_PEAK = 0.4


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


def cyclic(step: int, steps: int, peak: float) -> float:
    """Learning rate at `step` of `steps`: linear from 0 to peak and back to 0 (Wong, Rice, Kolter 2020)."""
    share = (step + 1) / (steps + 1)
    return peak * (share / _TRIANGLE_PEAK if share < _TRIANGLE_PEAK else (1 - share) / (1 - _TRIANGLE_PEAK))


def piecewise(step: int, steps: int, peak: float) -> float:
    """Learning rate at `step` of `steps`: peak, a tenth of it from half of the run on, a hundredth from 3/4 on."""
    return peak * 0.1 ** sum(step >= fall * steps for fall in _FALLS)


def cosine(step: int, steps: int, peak: float) -> float:
    """Learning rate at `step` of `steps`: half a cosine from peak to 0 (Loshchilov and Hutter 2017)."""
    return peak * (1 + math.cos(math.pi * step / max(1, steps))) / 2


def constant(step: int, steps: int, peak: float) -> float:
    """Learning rate at every step: peak."""
    return peak


def ramp(step: int, steps: int, share: float) -> float:
    """Factor in (0, 1] that grows linearly over the first `share` of `steps`, then stays at 1."""
    length = share * steps
    return 1.0 if length <= 0 else min(1.0, (step + 1) / length)
