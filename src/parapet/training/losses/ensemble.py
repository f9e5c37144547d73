"""Ensemble adversarial training: adversarial images of other, trained networks as well as of the network itself.

It was made for transferred single-step attacks. A white-box attack with several steps, `pgd` on the network itself,
breaks it, as the authors say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parapet.attacks.balls import ball
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import frozen
from parapet.attacks.objectives import cross_entropy


def ensemble_images(model: nn.Module, images: Tensor, labels: Tensor, *, static: Sequence[nn.Module], eps: float,
                    norm: str = "linf", generator: torch.Generator | None) -> tuple[Tensor, int]:
    """(adversarial images, their source): one step of length eps on a source drawn for this batch.

    Tramèr, Kurakin, Papernot, Goodfellow, Boneh and McDaniel 2018, "Ensemble Adversarial Training". Sources are the
    `static` networks, trained beforehand, and `model` itself, all equally likely; the number returned counts the static
    ones from 0, and is len(static) for the model. `generator` lives on the CPU; None is torch's global one. Train on
    the result with `pgd_training(..., clean_share=0.5)`: the paper mixes clean and adversarial images.
    """
    source = int(torch.randint(len(static) + 1, (), generator=generator))
    chosen = [*static, model][source]
    with frozen(chosen):
        _, _, gradient = input_gradient(chosen, images, labels, cross_entropy)
    return ball(images, eps, norm).step(images, gradient, eps), source
