"""Random crops and flips on the device, with random numbers of each image's own seed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from parapet.attacks.noise import derived, uniform

# Pixels of padding for each 8 of height: 4 for images of 32 pixels, as He et al. 2016 do on CIFAR-10.
_PADDED_SHARE = 1 / 8
_STREAM = 9157


def augment(images: Tensor, seeds: Tensor, kind: str) -> Tensor:
    """Images (N, C, H, W) shifted by up to an eighth of their size, zero-padded; "crop_flip" also mirrors at random.

    seeds: int64 (N,), one per image; `kind` is "none", "crop" or "crop_flip". Digits must not be mirrored.
    """
    if kind == "none":
        return images
    draws = uniform(derived(seeds, _STREAM), (3,))
    height, width = images.shape[2:]
    margin = max(1, round(height * _PADDED_SHARE))
    padded = pad(images, (margin,) * 4)
    rows = (draws[:, 0] * (2 * margin + 1)).long()[:, None] + torch.arange(height, device=images.device)
    columns = (draws[:, 1] * (2 * margin + 1)).long()[:, None] + torch.arange(width, device=images.device)
    if kind == "crop_flip":
        columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
    place = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put the channels last.
    return padded[place, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
