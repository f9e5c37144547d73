"""The accuracy that users of a model would meet under attack, found by who knows what the model hides."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from parapet.attacks import adapted, auto_attack, pgd
from parapet.attacks.balls import distance
from parapet.attacks.inputs import Model, predict
from tests.attacks.maskers import Masker, Networks
from tests.attacks.maskers.base import same

_STEPS, _RESTARTS = 100, 5
# What making an image one of the kind that users send may move a pixel by: one and a half grey levels.
_MOVED = 1.5 / 255


class Truth(NamedTuple):
    """Accuracies as fractions of 1: on clean images, and on the worst points that were found of each."""

    clean: float
    robust: float


def truth_of_masker(masker: Masker, networks: Networks, images: Tensor, labels: Tensor, *, seed: int = 0) -> Truth:
    """Attack the honest stand-in on images of the kind that users send, and show the points to new maskers.

    images (N, 1, 8, 8) are those of the data, before `masker.given`. Each set of points is judged by a masker that has
    seen nothing before, asked as users ask; an image counts as right where it is right in all of them.
    """
    images = masker.given(images).detach()
    right = clean = _right(masker, networks, masker.met(images), labels)
    stand_ins = [masker.honest(networks)] + ([masker.build(networks)] if masker.itself else [])
    radius = masker.eps - (0.0 if masker.met is same else _MOVED)
    for stand_in in stand_ins:
        for points in _attacked(lambda given, model=stand_in: model(masker.met(given)), images, labels, radius,
                                "linf", seed):
            met = masker.met(points).detach()
            # A frame that is set to 0 may be further away than the ball; such a point breaks nothing.
            inside = distance(met, images, "linf") <= masker.eps
            right = right & (_right(masker, networks, met, labels) | ~inside)
    return Truth(_mean(clean), _mean(right))


def truth_of_honest(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, seed: int = 0) -> Truth:
    """The worst of what the same attacks find on the model itself, through what its layers declare."""
    attacked = adapted(model)
    right = clean = predict(attacked, images) == labels
    for points in _attacked(attacked, images, labels, eps, norm, seed):
        right = right & (predict(attacked, points) == labels)
    return Truth(_mean(clean), _mean(right))


def _attacked(model: Model, images: Tensor, labels: Tensor, eps: float, norm: str, seed: int) -> list[Tensor]:
    """Points (N, C, H, W) of the rapid suite and of PGD on the margin."""
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)
    attacks: list[Callable[[], Tensor]] = [
        lambda: auto_attack(model, images, labels, eps=eps, norm=norm, version="rapid", generator=generator()),
        lambda: pgd(model, images, labels, eps=eps, norm=norm, steps=_STEPS, restarts=_RESTARTS, loss="margin",
                    early_stop=True, generator=generator())]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of maskers that draw from the global generator
        return [attack() for attack in attacks]


@torch.no_grad()
def _right(masker: Masker, networks: Networks, points: Tensor, labels: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return masker.asked(masker.build(networks), points.clone()).argmax(1) == labels


def _mean(right: Tensor) -> float:
    return float(right.double().mean())
