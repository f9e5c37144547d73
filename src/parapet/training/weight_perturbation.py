"""Adversarial weight perturbation: descend on the loss at the worst weights nearby (Wu, Xia and Wang 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from parapet.attacks.balls import unit
from parapet.errors import InputError


@contextmanager
def perturbed(model: nn.Module, loss_fn: Callable[[], Tensor], gamma: float, *,
              average: Callable[[Iterable[Tensor]], None] = lambda tensors: None) -> Iterator[Tensor]:
    """Inside the block each weight w is w + gamma |w| g / |g|, with g the gradient of `loss_fn()`; yields that loss.

    Algorithm 1 of the paper with one ascent step; |.| is the L2 norm over one layer's weight. `loss_fn` gives a scalar
    of the unperturbed model; gamma, 0.005 to 0.01 in the paper, must be at least 0. Parameters of one dimension (biases
    and the weights of norms) are not perturbed. After the block every weight is restored bit for bit, on an exception
    too. The gradient of the loss at the perturbed weights has to be taken inside the block and applied after it::

        with perturbed(model, lambda: loss(model), gamma):
            loss(model).backward()
        optimiser.step()

    Buffers are restored after `loss_fn`, so that the statistics of batch norm count each batch once. Where several
    processes share a batch, `average` replaces each g by its mean over them.
    """
    if not (math.isfinite(gamma) and gamma >= 0):
        raise InputError(f"the weight perturbation's gamma is {gamma:g}; it must be a finite number of at least 0.")
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    kept = [buffer.clone() for buffer in model.buffers()]
    loss = loss_fn()
    directions = torch.autograd.grad(loss, weights, allow_unused=True) if gamma > 0 and weights else ()
    moved = [(weight, weight.detach().clone(), direction) for weight, direction in zip(weights, directions)
             if direction is not None]
    average([direction for _, _, direction in moved])
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), kept):
            buffer.copy_(value)
    try:
        with torch.no_grad():
            for weight, before, direction in moved:
                weight.add_(gamma * before.norm() * unit(direction[None])[0])
        yield loss.detach()
    finally:
        # In place: autograd then refuses a backward pass after the block, which would give a wrong gradient.
        with torch.no_grad():
            for weight, before, _ in moved:
                weight.copy_(before)
