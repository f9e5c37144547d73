"""Checks that a model answers as an evaluation assumes: logits, deterministic, independent of the rest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parapet.attacks.inputs import Model, answers
from parapet.errors import InputError, ParapetError, is_of_the_machine

# Other batch sizes use other kernels, whose sums differ in the last digits; in standard deviations of the logits.
ROUNDING = 1e-3
_IMAGES, _REPEATS = 128, 2
# Further batch sizes to test: single images, sizes that a server may use, and one larger than those of attacks.
_SIZES, _LARGEST = (1, 1, 1, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 100), 257


@dataclass(frozen=True)
class Consistency:
    """`drift`, `batch_effect`: by how many standard deviations of the logits answers change in repeated passes, and in
    other batches; `probabilities`: whether all rows are non-negative and sum to 1."""

    drift: float
    batch_effect: float
    probabilities: bool


@torch.no_grad()
def observe(model: Model, images: Tensor, logits: Tensor, batch_size: int = _IMAGES) -> Consistency:
    """Query the first images (N, C, H, W) again, in reverse order, and in batches of many sizes up to 257 (or twice
    `batch_size` plus one, if that is smaller), and compare with `logits` (N, classes), the model's earlier answers."""
    images, logits = images[:min(_IMAGES, batch_size)], logits[:min(_IMAGES, batch_size)]
    unit, slack = _unit_and_slack(logits)
    backwards = torch.arange(len(images) - 1, -1, -1, device=images.device)
    repeated = [answers(model, images) for _ in range(_REPEATS)]
    drift = max(_largest(again - repeated[0]) for again in repeated[1:])
    batch_effect = _largest(answers(model, images[backwards])[backwards] - logits)
    sizes = [*_SIZES, min(_LARGEST, 2 * batch_size + 1)]
    for rows in (torch.arange(sum(sizes), device=images.device) % len(images)).split(sizes):
        try:
            batch_effect = max(batch_effect, _largest(answers(model, images[rows]) - logits[rows]))
        except Exception:  # an exported program may have a largest batch size
            if len(rows) <= batch_size:
                raise
    drift = max(drift, _largest(repeated[0] - logits) if len(images) == len(logits) else 0.0)
    return Consistency(max(drift - slack, 0.0) / unit, max(batch_effect - slack, 0.0) / unit,
                     bool((logits >= 0).all() and (logits.double().sum(1) - 1).abs().max() < 1e-3))


@torch.no_grad()
def differing_batch_size(model: Model, images: Tensor, logits: Tensor, sizes: Sequence[int]) -> int | None:
    """The first of the batch `sizes` in which the answers differ from `logits` (N, classes), None if there is none.

    The images (N, C, H, W) are repeated until a batch is full. A size that the model does not support is skipped: a
    program may have been exported for a few sizes only.
    """
    unit, slack = _unit_and_slack(logits)
    for size in sizes:
        rows = torch.arange(size, device=images.device) % len(images)
        try:
            change = _largest(answers(model, images[rows]) - logits[rows])
        except Exception as error:  # a model's own code may raise anything
            if isinstance(error, ParapetError) or is_of_the_machine(error):
                raise
            continue
        if change > slack + ROUNDING * unit:
            return size
    return None


def check_contract(found: Consistency, *, random: bool) -> None:
    """Raise InputError if a robust accuracy would be wrong: probabilities, undeclared randomness (`random`: it is
    declared), answers that depend on the batch."""
    if found.probabilities:
        raise InputError("the model returns probabilities (each row is positive and sums to 1), and gradients of their "
                         "cross-entropy are too small; return the logits before the softmax.")
    if random:
        return
    if found.drift > ROUNDING:
        raise InputError(f"the model answers the same images differently when asked again (by {found.drift:.2g} "
                         "standard deviations of its logits); if it is random, wrap it in parapet.attacks.Eot or "
                         "let the random layer declare attacked_through = \"eot\".")
    if found.batch_effect > ROUNDING:
        raise InputError(f"the model's answer to an image depends on its batch (by {found.batch_effect:.2g} standard "
                         "deviations of its logits); use fixed statistics, in batch norm those of the training.")


def _unit_and_slack(logits: Tensor) -> tuple[float, float]:
    """(standard deviation of the logits, 1 if they are all equal; the largest difference that rounding explains)."""
    spread = float(logits.double().std()) if logits.numel() > 1 else 0.0
    return spread if spread > 0 else 1.0, 2 * torch.finfo(logits.dtype).eps * _largest(logits)


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0
