"""What every defence layer says of itself: how an attacker has to go through it."""

from __future__ import annotations

from typing import Any

from torch import nn

# Through its own gradients; through a differentiable stand-in on the way back (backward pass differentiable
# approximation), or in the mean over its random draws (expectation over transformation), both Athalye et al. 2018.
WAYS = ("gradients", "bpda", "eot")


class Defence(nn.Module):
    """A layer that is there to resist attacks.

    A subclass sets `attacked_through` to one of `WAYS`, or cannot be defined: an attack that meets a rounding or a
    random layer unprepared measures nothing. A "bpda" layer keeps the shape of its input and has `levels`, the number
    of steps between 0 and 1, if it is a staircase.
    """

    attacked_through: str

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if getattr(cls, "attacked_through", None) not in WAYS:
            raise TypeError(f"{cls.__name__} does not say how it is attacked; set attacked_through to one of "
                            f"{', '.join(WAYS)}.")
