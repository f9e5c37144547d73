"""Accuracies on the validation split, and whether the network misleads single-step attacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import frozen, predict
from parapet.config import ThreatModel
from parapet.data.images import Images
from parapet.training.adaptation import Feedback

_REACH = 2.5  # radii; the sum of the lengths of all steps (Madry et al. 2018)


def validate(network: nn.Module, images: Images, threat: ThreatModel, *, steps: int, batch_size: int,
             turn: Callable[[], AbstractContextManager[object]]) -> dict[str, float]:
    """Clean accuracy and accuracy under margin-PGD, with the same noise in every epoch."""
    generator = torch.Generator().manual_seed(0)
    clean = robust = 0
    with frozen(network):
        for batch, labels in images.batches(batch_size):
            with turn():
                clean += int((predict(network, batch) == labels).sum())
                points = pgd(network, batch, labels, eps=threat.eps, norm=threat.norm, steps=steps, loss="margin",
                             early_stop=True, generator=generator)
                robust += int((predict(network, points) == labels).sum())
    return {"validation_clean_accuracy": clean / len(images), "validation_robust_accuracy": robust / len(images)}


def feedback(network: nn.Module, images: Images, *, count: int, eps: float, norm: str, steps: int) -> Feedback:
    """Accuracies of the first `count` images under one step of size eps, under `steps` steps, and without an attack.

    The attacks start from the images themselves. `eps` is the radius that the last epoch trained with: at a larger one
    a network that misleads nothing has a gap too.
    """
    batch, labels = images.batch(slice(count))
    accuracies = []
    with frozen(network):
        clean = float((predict(network, batch) == labels).float().mean())
        for each, size in ((1, eps), (steps, _REACH * eps / steps)):
            points = pgd(network, batch, labels, eps=eps, norm=norm, steps=each, step_size=size, random_start=False,
                         early_stop=True)
            accuracies.append(float((predict(network, points) == labels).float().mean()))
    single_step, several_steps = accuracies
    return Feedback(single_step, several_steps, clean)
