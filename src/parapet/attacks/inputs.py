"""What every attack asks of its input, and the promise to leave the model as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from parapet.errors import InputError

Model = Callable[[Tensor], Tensor]
# The largest block whose release still raises glibc's thresholds (mallopt(3), M_MMAP_THRESHOLD) is one of 32 MiB.
_BLOCK = 31 * 2**20


def check(images: Tensor, labels: Tensor, *, eps: float | None = None, norm: str = "linf") -> None:
    """Raise InputError unless images are float (N, C, H, W) in [0, 1], labels whole numbers (N,), eps in range."""
    if not torch.is_floating_point(images) or images.dim() != 4:
        raise InputError(f"images are {images.dtype} of shape {tuple(images.shape)}; "
                         "attacks take floating-point images of shape (N, C, H, W).")
    if labels.shape != images.shape[:1] or torch.is_floating_point(labels):
        raise InputError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; "
                         f"{len(images)} images need {len(images)} whole numbers.")
    if norm not in ("linf", "l2"):
        raise InputError(f"norm is {norm!r}; allowed: linf, l2.")
    if len(images):
        low, high = (bound.item() for bound in torch.aminmax(images))
        if not (low >= 0 and high <= 1):
            raise InputError(f"images range from {low:g} to {high:g}; pixels must lie in [0, 1]: "
                             "put the normalisation inside the model.")
    largest = 1.0 if norm == "linf" else math.sqrt(math.prod(images.shape[1:]))
    if eps is not None and not 0 < eps <= largest:
        hint = f"; did you mean {eps:g}/255?" if 1 < eps <= 255 and norm == "linf" else ""
        raise InputError(f"eps is {eps:g}; it must lie in (0, {largest:.4g}] for {norm}{hint}")


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise InputError unless logits are finite, (N, classes), with room for every label."""
    if logits.dim() != 2 or len(logits) != len(labels):
        raise InputError(f"the model returned shape {tuple(logits.shape)} for {len(labels)} images; "
                         "it must return logits of shape (N, classes).")
    if not torch.isfinite(logits).all():
        raise InputError("the model returned NaN or infinite logits; a robustness number for it would be wrong.")
    if len(labels) and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise InputError(f"labels range from {int(labels.min())} to {int(labels.max())}, and the model has "
                         f"{logits.shape[1]} classes.")


def settle_allocator() -> None:
    """Let glibc keep the heap between steps; other allocators take no notice.

    Else it gives the top of the heap back to the kernel after each step and faults it in again at the next, which
    takes a third of the time of an attack on a small network. The block is never written to.
    """
    torch.empty(_BLOCK, dtype=torch.uint8)


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside the block; afterwards every module is as it was."""
    settle_allocator()
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for module, _ in modes:
            module.training = False
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


@torch.no_grad()
def predict(model: Model, images: Tensor, batch_size: int = 1024) -> Tensor:
    """Predicted labels (N,), in batches, without gradients."""
    return torch.cat([model(batch).argmax(1) for batch in images.split(batch_size)])
