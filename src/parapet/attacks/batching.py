"""Shrinks batches: which images stay when some of them need no more work."""

from __future__ import annotations

import torch
from torch import Tensor

# For each new batch size oneDNN and cuDNN search for kernels and keep them in memory, which on small networks costs
# more than a smaller batch saves. So batches shrink in multiples of this.
MULTIPLE = 64
# Counting the active images synchronises with an accelerator, so a long loop does it only every so many steps.
_LOOK_EVERY = 8


def shrink(active: Tensor, multiple: int = MULTIPLE) -> Tensor | None:
    """Ascending indices of all active images and of as many others as round their number up to `multiple`.

    active: bool (N,). None if the batch would not get smaller; empty if no image is active.
    """
    stay = active.nonzero().squeeze(1)
    wanted = -(-len(stay) // multiple) * multiple
    if wanted >= len(active):
        return None
    if wanted == len(stay):
        return stay
    others = (~active).nonzero().squeeze(1)[:wanted - len(stay)]
    return torch.cat([stay, others]).sort().values


def batches(chosen: Tensor, size: int) -> tuple[Tensor, ...]:
    """Indices of the images `chosen`, bool (N,), in batches of at most `size`; empty if none is chosen."""
    return chosen.nonzero().squeeze(1).split(size) if chosen.any() else ()


def due(step: int) -> bool:
    """Whether a loop should try to shrink its batch at `step` (0, 1, ...): in the first four, then in every eighth."""
    return step < _LOOK_EVERY // 2 or step % _LOOK_EVERY == 0
