"""Random numbers per image, independent of its position in a batch and of the device.

One 62-bit seed per image is drawn from the caller's generator. Everything else comes from a counter-based generator
(SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), so that an image gets the same
noise with another batch size, after other images left the batch, and on another device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parapet.errors import InputError

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX1 = -0x40A7B892E31B1A47    # 0xBF58476D1CE4E5B9
_MIX2 = -0x6B2FB644ECCEEE15    # 0x94D049BB133111EB


# What an attack takes as `generator`: a source of seeds, or the seeds themselves, int64 (N,), one per image.
Generator = torch.Generator | Tensor


def image_seeds(count: int, generator: Generator | None, device: torch.device) -> Tensor:
    """One int64 seed per image, shape (count,), drawn in order; without a generator they are 0, 1, 2, ..."""
    if generator is None:
        return torch.arange(count, device=device)
    if isinstance(generator, Tensor):
        if generator.shape != (count,) or generator.dtype != torch.int64:
            raise InputError(f"generator holds {generator.dtype} seeds of shape {tuple(generator.shape)}; "
                             f"{count} images need an int64 tensor of shape ({count},), or a torch.Generator.")
        return generator.to(device)
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator is {generator!r}; give torch.Generator().manual_seed(0), one int64 seed an image, "
                         "or None.")
    return torch.randint(2**62, (count,), generator=generator, device=generator.device).to(device)


def derived(seeds: Tensor, stream: int) -> Tensor:
    """Independent seeds for the same images, for attack, restart or target number `stream`; shape (N,)."""
    offset = ((stream + 1) * _MIX2 + 2**63) % 2**64 - 2**63  # products of Python's integers do not wrap around
    return _mixed(seeds + offset) & (2**62 - 1)


def uniform(seeds: Tensor, shape: torch.Size | tuple[int, ...], draw: int = 0) -> Tensor:
    """Float32 noise in [0, 1) of shape (N, *shape); `draw` counts the draws of one image."""
    size = math.prod(shape)
    counter = torch.arange(draw * size + 1, (draw + 1) * size + 1, device=seeds.device)
    state = _mixed(seeds[:, None] + counter * _GOLDEN)
    return (_shift(state, 40).float() / 2**24).reshape(len(seeds), *shape)


def normal(seeds: Tensor, shape: torch.Size | tuple[int, ...], draw: int = 0) -> Tensor:
    """Float32 standard normal noise of shape (N, *shape), by inverse transform sampling."""
    noise: Tensor = torch.special.ndtri(uniform(seeds, shape, draw).double() + 2**-25)
    return noise.float()


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _MIX1
    state = (state ^ _shift(state, 27)) * _MIX2
    return state ^ _shift(state, 31)


def _shift(state: Tensor, places: int) -> Tensor:
    """Logical right shift (torch shifts int64 arithmetically)."""
    return (state >> places) & ((1 << (64 - places)) - 1)
