"""The rapid version of AutoAttack: A3, then Square from where A3 ended, with budgets that end where nothing falls."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from parapet.attacks.black_box.square import square
from parapet.attacks.gradient.a3 import Round, a3, brief
from parapet.attacks.inputs import Model, check, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.errors import InputError

# From the points of the largest margin small squares pay at once: with the paper's 0.8 from its stripes, 2,000 queries
# break on small MNIST networks what these break with 500 (benchmarks/README.md).
_INITIAL_SHARE = 0.1
QUERIES, PATIENCE = 1000, 250


def rapid(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf",
          rounds: Sequence[Round] | None = None, steps: int | None = None, queries: int = QUERIES,
          patience: int = PATIENCE, early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """A3 on every image, then Square on those that it left standing, from the points that it reached.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. A3 has its
    `rounds`, or two short ones of so many `steps` (`brief`), by default those of the norm. Square ends after `queries`
    queries, and where `patience` in a row have broken nothing; with 0 queries it is left out. Broken images leave the
    batch whatever `early_stop` says; it belongs to the common signature. Returns for each image a version that the
    model gets wrong where there is one, else the one of the largest margin. Raises InputError for budgets that are
    none.
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
