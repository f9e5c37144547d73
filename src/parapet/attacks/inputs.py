"""Checks of an attack's inputs, and calls of the model that leave it as it was."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.balls import widest
from parapet.errors import InputError, is_out_of_memory
from parapet.quoting import words

Model = Callable[[Tensor], Tensor]
# The largest block whose release still raises glibc's thresholds (mallopt(3), M_MMAP_THRESHOLD) is one of 32 MiB.
_BLOCK = 31 * 2**20


def check(images: Tensor, labels: Tensor, *, eps: float | None = None, norm: str = "linf") -> None:
    """Raise InputError unless images are float (N, C, H, W) in [0, 1], labels whole numbers (N,), eps in range."""
    if images.dtype not in (torch.float32, torch.float64) or images.dim() != 4:
        raise InputError(f"images are {images.dtype} of shape {tuple(images.shape)}; "
                         "attacks take float32 images of shape (N, C, H, W).")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise InputError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; "
                         f"{len(images)} images need {len(images)} whole numbers, torch.int64.")
    if len(labels) and int(labels.min()) < 0:
        raise InputError(f"the smallest label is {int(labels.min())}; labels are the numbers of classes, from 0 on.")
    if norm not in ("linf", "l2"):
        raise InputError(f"norm is {norm!r}; allowed: linf, l2.")
    if len(images):
        low, high = (bound.item() for bound in torch.aminmax(images))
        if not (low >= 0 and high <= 1):
            raise InputError(f"images range from {low:g} to {high:g}; pixels must lie in [0, 1]: "
                             "put the normalisation inside the model.")
    largest = widest(images, norm)
    if eps is not None and not 0 < eps <= largest:
        hint = f"; did you mean {eps:g}/255?" if 1 < eps <= 255 and norm == "linf" else ""
        raise InputError(f"eps is {eps:g}; it must lie in (0, {largest:.4g}] for {norm}{hint or '.'}")


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise InputError unless logits are finite, (N, classes), with room for every label."""
    if logits.dim() != 2 or len(logits) != len(labels):
        raise InputError(f"the model returned shape {tuple(logits.shape)} for {len(labels)} images; "
                         "it must return logits of shape (N, classes).")
    if logits.shape[1] < 2:
        raise InputError(f"the model has {logits.shape[1]} class; a classifier has at least two.")
    if not torch.isfinite(logits).all():
        raise InputError("the model returned NaN or infinite logits; a robustness number for it would be wrong.")
    if len(labels) and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise InputError(f"labels range from {int(labels.min())} to {int(labels.max())}, and the model has "
                         f"{logits.shape[1]} classes.")


def settle_allocator() -> None:
    """Let glibc keep freed memory between steps; no effect on other allocators.

    Otherwise it returns the top of the heap to the kernel after each step and takes page faults at the next, a third of
    the time of an attack on a small network. The block is never written to.
    """
    torch.empty(_BLOCK, dtype=torch.uint8)


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside the block; afterwards every module is as it was.

    Modules with an attribute `remembers` may cache in the block what they compute from their parameters.
    """
    settle_allocator()
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    keeping: list[tuple[Any, Any]] = [(module, module.remembers) for module, _ in modes if hasattr(module, "remembers")]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for module, _ in modes:
            module.training = False
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        for module, _ in keeping:
            module.remembers = True
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, remembered in keeping:
            module.remembers = remembered
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def ask(model: Model, images: Tensor) -> Tensor:
    """The model's answer to `images` (N, C, H, W), with copies of input and output; gradients reach `images`.

    The input is copied because a model may work in place on it, as `clamp_` does, which autograd forbids on a leaf. The
    output is copied because it may be a view of the input, or a buffer that the next call overwrites. Both together
    cost about 1 % of the time of one of our networks.
    """
    logits = model(images.clone())
    return logits.clone() if isinstance(logits, Tensor) else logits


def came_from_model(error: BaseException) -> bool:
    """Whether a model's own code raised `error` during a query."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(frame.f_code is ask.__code__ for frame in frames[:-1])


@torch.no_grad()
def predict(model: Model, images: Tensor, batch_size: int = 1024) -> Tensor:
    """Predicted labels (N,), in batches, without gradients."""
    return torch.cat([answers(model, batch).argmax(1) for batch in images.split(batch_size)])


@torch.no_grad()
def answers(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes) without gradients, computed in halves if the whole does not fit into memory."""
    logits: Tensor = in_halves(partial(ask, model), images)
    return logits


def in_halves(work: Callable[..., Any], *parts: Tensor) -> Any:
    """`work(*parts)`; if memory runs out, the concatenated results of both halves of the parts, recursively.

    Parts are halved along their first dimension. `work` returns a tensor or a tuple of tensors.
    """
    try:
        return work(*parts)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(parts[0]) == 1:
            raise
    if parts[0].is_cuda:
        torch.cuda.empty_cache()
    middle = len(parts[0]) // 2
    halves = [in_halves(work, *(part[place] for part in parts)) for place in (slice(middle), slice(middle, None))]
    return torch.cat(halves) if isinstance(halves[0], Tensor) else tuple(torch.cat(pair) for pair in zip(*halves))


def first_answers(model: Model, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Logits (N, classes) of clean images, in batches. Raises InputError if the model cannot be called on them, or does
    not return logits for these labels."""
    try:
        found = [answers(model, batch) for batch in images.split(batch_size)]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"the model cannot be called on {images.dtype} images of shape {tuple(images.shape)} "
                         f"({words(error)}); give images of the shape that it was made for.") from error
    for logits in found:
        if not isinstance(logits, Tensor):
            raise InputError(f"the model returned {type(logits).__name__}; it must return logits, one tensor of shape "
                             "(N, classes).")
    logits = torch.cat(found)
    check_logits(logits, labels)
    return logits
