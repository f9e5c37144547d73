"""The 3x3 median by minima and maxima: exact, differentiable almost everywhere, exportable to ONNX."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def median3x3(images: Tensor) -> Tensor:
    """Median over each pixel's 3x3 neighbourhood, edges replicated; (N, C, H, W) to the same shape.

    The gradient goes to the pixel that is the median (to the first of equal ones).
    """
    padded = pad(images, (1, 1, 1, 1), mode="replicate")
    return _Median.apply(padded) if padded.requires_grad and torch.is_grad_enabled() else _network(padded)


class _Median(torch.autograd.Function):
    """The median with its own backward pass, which costs a quarter of that through the minima and maxima."""

    @staticmethod
    def forward(context: Any, padded: Tensor) -> Tensor:
        medians = _network(padded)
        context.save_for_backward(padded, medians)
        return medians

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        padded, medians = context.saved_tensors
        height, width = medians.shape[-2:]
        result, rest = torch.zeros_like(padded), gradient
        for row in range(3):
            for column in range(3):
                window = (..., slice(row, row + height), slice(column, column + width))
                chosen = padded[window] == medians
                result[window] += torch.where(chosen, rest, 0)
                rest = torch.where(chosen, 0, rest)
        return result


def _network(padded: Tensor) -> Tensor:
    """Medians (N, C, H, W) of the 3x3 windows of `padded` (N, C, H + 2, W + 2).

    Each column of three is sorted once and shared by the three windows that contain it. The median of nine is the
    median of the largest minimum, the median of the medians and the smallest maximum of its columns (Smith 1996,
    "Implementing median filters in XC4000E FPGAs").
    """
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    top, middle, bottom = (padded[..., row:row + height, :] for row in range(3))
    top, middle = _sort(top, middle)
    middle, bottom = _sort(middle, bottom)
    top, middle = _sort(top, middle)
    lows, medians, highs = ([part[..., column:column + width] for column in range(3)]
                            for part in (top, middle, bottom))
    return _median(torch.maximum(torch.maximum(lows[0], lows[1]), lows[2]), _median(*medians),
                   torch.minimum(torch.minimum(highs[0], highs[1]), highs[2]))


def _sort(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return torch.minimum(first, second), torch.maximum(first, second)


def _median(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    low, high = _sort(first, second)
    return torch.maximum(low, torch.minimum(high, third))
