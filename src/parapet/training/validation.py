"""What a run learns of itself on the validation split: accuracies, and whether it misleads single steps."""

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

_REACH = 2.5  # radii that several steps could walk (Madry et al. 2018)


def validate(network: nn.Module, images: Images, threat: ThreatModel, *, steps: int, batch_size: int,
             turn: Callable[[], AbstractContextManager[object]]) -> dict[str, float]:
    """Clean accuracy and accuracy under margin-PGD, with the same noise each time, so that epochs compare."""
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
    """How the first `count` images fare under one step of size eps, under `steps` steps, and without any.

    The attacks start from the images themselves.

    `eps` is the radius that the last epoch trained with: at a larger one an honest network has a gap too.
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
