"""Which images stay in a batch when some of them need no more work."""

from __future__ import annotations

import torch
from torch import Tensor

# Every new batch size costs oneDNN and cuDNN a search for kernels and memory to keep them: on small networks more
# than the work that is saved. So batches shrink in steps.
MULTIPLE = 64
# Counting the active images makes the host wait for an accelerator, so a long loop looks only now and then.
_LOOK_EVERY = 8


def shrink(active: Tensor, multiple: int = MULTIPLE) -> Tensor | None:
    """Indices (in order) of all the active images and as many others as round their number up to `multiple`.

    active: bool (N,). None where the batch would not get smaller; empty where no image is active.
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
    """Indices of the images `chosen`, bool (N,), in batches of at most `size`; none where none is chosen."""
    return chosen.nonzero().squeeze(1).split(size) if chosen.any() else ()


def due(step: int) -> bool:
    """Whether a loop should see at `step` (0, 1, ...) if its batch can shrink: at first always, then now and then."""
    return step < _LOOK_EVERY // 2 or step % _LOOK_EVERY == 0
