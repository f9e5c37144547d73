"""What minimum-norm attacks that use predicted labels only have in common."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.inputs import Model, frozen, predict


def search_by_labels(model: Model, images: Tensor, labels: Tensor, norm: str,
                     search: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their distances (N,) under `norm`, found by `search`.

    `search` gets which images are misclassified already, bool (N,), and returns (the images `rows` (n,) for which it
    found a misclassified point, these points (n, C, H, W)). The distance is 0 for images that are misclassified
    already, infinite where nothing was found.
    """
    found = images.clone()
    distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    if len(images):
        with frozen(model), torch.no_grad():
            wrong = predict(model, images) != labels
            rows, points = search(wrong)
        found[rows], distances[rows] = points, distance(points, images[rows], norm)
        distances[wrong] = 0.0
    return found, distances
