"""Ways to query a model: batch composition, order, memory layout, precision, and inference mode as in a service.

Each function maps a model to a model that gives the same answers unless the model depends on how it is queried.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.inputs import Model, ask


def whole_batch(model: Model) -> Model:
    """All images in one batch, in their order."""
    return lambda images: ask(model, images)


def one_at_a_time(model: Model) -> Model:
    """Batches of one image."""
    return lambda images: torch.cat([ask(model, images[place:place + 1]) for place in range(len(images))])


def reversed_order(model: Model) -> Model:
    """One batch in reverse order."""
    return lambda images: ask(model, images.flip(0)).flip(0)


def channels_last(model: Model) -> Model:
    """Images in channels-last memory layout; cloned here, because `ask` would clone to another layout."""
    return lambda images: model(images.clone(memory_format=torch.channels_last))


def non_contiguous(model: Model) -> Model:
    """Images that are slices of wider ones."""
    return lambda images: model(torch.cat([images, images], dim=3)[..., :images.shape[3]])


def in_precision(dtype: torch.dtype) -> Callable[[Model], Model]:
    """Images, and the parameters of a module, in another floating-point type."""
    def mode(model: Model) -> Model:
        converted = model
        if isinstance(model, nn.Module):
            converted = deepcopy(model).to(dtype)
            keeping: list[Any] = [module for module in converted.modules() if hasattr(module, "remembers")]
            for module in keeping:
                module.remembers = False  # cached tensors are in single precision
        return lambda images: ask(converted, images.to(dtype)).to(images.dtype)
    return mode


def mixed_precision(model: Model) -> Model:
    """Autocast to bfloat16, as services use it on hardware that is fast at it."""
    def query(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return ask(model, images).to(images.dtype)
    return query


def in_batches_of(size: int) -> Callable[[Model], Model]:
    """Full batches of `size` images; images are repeated until the last batch is full."""
    def query(model: Model, images: Tensor) -> Tensor:
        rows = torch.arange(-(-len(images) // size) * size, device=images.device) % len(images)
        return torch.cat([ask(model, part) for part in images[rows].split(size)])[:len(images)]
    return lambda model: partial(query, model)


def as_service(model: Model) -> Model:
    """As a service queries a model: in a thread of its own (the call stack shows no attack or audit), in
    `torch.inference_mode` (no gradient is recorded), and with parameters that require gradients.

    A module is copied if possible: tensors that it creates and keeps in inference mode are unusable outside of it.
    """
    try:
        copied = deepcopy(model) if isinstance(model, nn.Module) else model
    except Exception:  # a module may hold anything, also what cannot be copied
        copied = model
    if copied is not model and isinstance(copied, nn.Module):
        for parameter in copied.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    answer = torch.inference_mode()(partial(copied))
    thread = ThreadPoolExecutor(1, thread_name_prefix="service")  # ends when the last reference to it is gone

    def query(images: Tensor) -> Tensor:
        # Cloned outside inference mode, so that a model that keeps its input may use it later.
        logits: Tensor = thread.submit(answer, images.clone()).result()
        return logits.clone()
    return query


def as_service_one_at_a_time(model: Model) -> Model:
    """As a service queries a model, in batches of one image."""
    return one_at_a_time(as_service(model))
