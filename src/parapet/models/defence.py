"""The base class of defence layers, which declare how an adaptive attack gets its gradients."""

from __future__ import annotations

from typing import Any

from torch import nn

# With the layer's own gradients; with a differentiable approximation in the backward pass (BPDA); with the mean over
# its random draws (expectation over transformation, EOT); both Athalye et al. 2018.
WAYS = ("gradients", "bpda", "eot")


class Defence(nn.Module):
    """A layer that is meant to resist attacks.

    A subclass must set `attacked_through` to one of `WAYS`: an attack that is not adapted to a rounding or random layer
    measures nothing. A "bpda" layer keeps the shape of its input. If it rounds, it has `levels`, the number of steps
    between 0 and 1.
    """

    attacked_through: str

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if getattr(cls, "attacked_through", None) not in WAYS:
            raise TypeError(f"{cls.__name__} does not declare how it is attacked; set attacked_through to one of "
                            f"{', '.join(WAYS)}.")
