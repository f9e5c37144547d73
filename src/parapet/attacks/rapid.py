"""The rapid version of AutoAttack: A3, then Square from its end points, each stopping early when it breaks nothing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from parapet.attacks.black_box.square import square
from parapet.attacks.gradient.a3 import Round, a3, brief
from parapet.attacks.inputs import Model, check, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.errors import InputError

# From the points of the largest margin small squares succeed at once: on small MNIST networks 500 queries break as much
# as 2,000 from the paper's stripes with its share of 0.8 (benchmarks/README.md).
_INITIAL_SHARE = 0.1
QUERIES, PATIENCE = 1000, 250


def rapid(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf",
          rounds: Sequence[Round] | None = None, steps: int | None = None, queries: int = QUERIES,
          patience: int = PATIENCE, early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """A3 on every image, then Square on the survivors, from the end points of A3.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. A3 runs
    its `rounds`, or two short ones of `steps` steps (`brief`), by default the rounds of the norm. Square ends after
    `queries` queries, or when `patience` in a row have broken nothing; 0 queries leave it out. Broken images always
    leave the batch; `early_stop` belongs to the common signature. Returns for each image a version that the model
    misclassifies if one was found, else the one of the largest margin. Raises InputError for budgets out of range.
    """
    check(images, labels, eps=eps, norm=norm)
    if queries < 0:
        raise InputError(f"rapid got queries={queries}; it must be at least 0, which leaves Square out.")
    if steps is not None:
        if rounds is not None or steps < 1:
            raise InputError(f"rapid got steps={steps}; it must be at least 1, and goes without rounds.")
        rounds = brief(norm, steps)
    seeds = image_seeds(len(images), generator, images.device)
    points = a3(model, images, labels, eps=eps, norm=norm, rounds=rounds, generator=derived(seeds, 0))
    rows = (predict(model, points) == labels).nonzero().squeeze(1) if queries and len(images) else seeds[:0]
    if len(rows):
        points[rows] = square(model, images[rows], labels[rows], eps=eps, norm=norm, queries=queries,
                              initial_share=_INITIAL_SHARE, start=points[rows], patience=patience,
                              generator=derived(seeds[rows], 1))
    return points
