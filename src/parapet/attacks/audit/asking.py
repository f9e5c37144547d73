"""Ways of asking a model: in other company, order, memory and precision, and as a service asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.inputs import Model, ask


def together(model: Model) -> Model:
    """At once, as before."""
    return lambda images: ask(model, images)


def alone(model: Model) -> Model:
    """One image at a time."""
    return lambda images: torch.cat([ask(model, images[place:place + 1]) for place in range(len(images))])


def backwards(model: Model) -> Model:
    """In another order."""
    return lambda images: ask(model, images.flip(0)).flip(0)


def channels_last(model: Model) -> Model:
    """Images whose channels come last in memory, copied by hand, so that the copy has this order too."""
    return lambda images: model(images.clone(memory_format=torch.channels_last))


def strided(model: Model) -> Model:
    """Images that are a part of wider ones."""
    return lambda images: model(torch.cat([images, images], dim=3)[..., :images.shape[3]])


def in_precision(dtype: torch.dtype) -> Callable[[Model], Model]:
    """The images in another precision, and the model's parameters too where it has any."""
    def way(model: Model) -> Model:
        twin = model
        if isinstance(model, nn.Module):
            twin = deepcopy(model).to(dtype)
            keeping: list[Any] = [module for module in twin.modules() if hasattr(module, "remembers")]
            for module in keeping:
                module.remembers = False  # what it kept is of single precision
        return lambda images: ask(twin, images.to(dtype)).to(images.dtype)
    return way


def mixed(model: Model) -> Model:
    """In mixed precision, as a service may ask whose machine is fast at it."""
    def asked(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return ask(model, images).to(images.dtype)
    return asked


def in_batches_of(size: int) -> Callable[[Model], Model]:
    """In full batches of so many; the images come again and again until the last one is full."""
    def asked(model: Model, images: Tensor) -> Tensor:
        rows = torch.arange(-(-len(images) // size) * size, device=images.device) % len(images)
        return torch.cat([ask(model, part) for part in images[rows].split(size)])[:len(images)]
    return lambda model: partial(asked, model)


def served(model: Model) -> Model:
    """As a service may ask: in a thread of its own, which no function of an examination has called, in
    `torch.inference_mode`, where no gradient is recorded, and with parameters that are not frozen. A module is copied
    where it can be: what it made and kept in that mode could not be used outside of it."""
    try:
        copied = deepcopy(model) if isinstance(model, nn.Module) else model
    except Exception:  # whatever it holds that cannot be copied
        copied = model
    if copied is not model and isinstance(copied, nn.Module):
        for parameter in copied.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    answer = torch.inference_mode()(partial(copied))
    thread = ThreadPoolExecutor(1, thread_name_prefix="service")  # it ends with the last reference to it

    def asked(images: Tensor) -> Tensor:
        # Copied out here, so that a model that keeps what it is given may use it later.
        logits: Tensor = thread.submit(answer, images.clone()).result()
        return logits.clone()
    return asked


def served_alone(model: Model) -> Model:
    """As a service may ask, one image at a time."""
    return alone(served(model))
