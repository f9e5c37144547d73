"""The 3x3 median as a fixed network of minima and maxima: exact, differentiable almost everywhere, exportable."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

# 19 exchanges that leave the median of nine values in place 4 (Devillard 1998, "Fast median search").
_EXCHANGES = ((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3),
              (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2))


def median3x3(images: Tensor) -> Tensor:
    """Median over each pixel's 3x3 neighbourhood, edges replicated; (N, C, H, W) to the same shape."""
    height, width = images.shape[-2:]
    padded = pad(images, (1, 1, 1, 1), mode="replicate")
    values = [padded[..., row:row + height, column:column + width] for row in range(3) for column in range(3)]
    for low, high in _EXCHANGES:
        values[low], values[high] = torch.minimum(values[low], values[high]), torch.maximum(values[low], values[high])
    return values[4]
