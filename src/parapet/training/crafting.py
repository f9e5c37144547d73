"""The inner maximisation: adversarial images of one training batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parapet.attacks.balls import ball
from parapet.attacks.gradient.pgd import ascend
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import frozen
from parapet.attacks.noise import uniform
from parapet.attacks.objectives import Objective as AttackLoss
from parapet.attacks.objectives import cross_entropy, divergence_from, precise
from parapet.catalogue.crafting import CRAFTINGS
from parapet.training.losses.ensemble import ensemble_images

# In radii: the step of FGSM from a random start (Wong et al. 2020), and the noise of N-FGSM (de Jorge et al. 2022,
# "Make Some Noise", section 4: twice the radius, not clipped to the ball afterwards).
_FGSM_STEP, _NOISE = 1.25, 2.0
# PGD's step is this many radii divided by the number of steps (Madry et al. 2018).
_PGD_REACH = 2.5


@dataclass(frozen=True)
class Crafting:
    """How a batch is attacked during training.

    kind: "pgd" (Madry et al. 2018), "fgsm" (one step from a random start; Wong et al. 2020), "n_fgsm" (de Jorge et al.
    2022) or "ensemble" (one step on this or on another, trained network; Tramèr et al. 2018). steps: of "pgd".
    divergence: maximise the KL divergence from the clean prediction, as TRADES does, and not cross-entropy.
    """

    kind: str = "pgd"
    steps: int = 1
    divergence: bool = False

    @property
    def passes(self) -> int:
        """Forward and backward passes per image; `divergence` needs one more forward pass."""
        return self.steps if CRAFTINGS[self.kind].iterated else 1

    def step_size(self, eps: float) -> float:
        """The length of a step in the ball of radius `eps`."""
        return {"pgd": _PGD_REACH * eps / self.steps, "fgsm": _FGSM_STEP * eps}.get(self.kind, eps)

    @property
    def single(self) -> bool:
        """Whether the attack has a single step, which networks can learn to mislead."""
        return self.passes == 1


def craft(network: nn.Module, images: Tensor, labels: Tensor, crafting: Crafting, eps: float, norm: str,
          seeds: Tensor, *, static: Sequence[nn.Module] = (), generator: torch.Generator | None = None) -> Tensor:
    """Adversarial images (N, C, H, W) in [0, 1]; inside the ball of radius `eps`, except those of "n_fgsm".

    seeds: int64 (N,), one per image. "ensemble" draws one of the `static` networks or `network` with `generator`. Batch
    norm is in eval mode during the attack (Pang et al. 2021, "Bag of Tricks for Adversarial Training", section 3.6).
    """
    if crafting.kind == "ensemble":
        return ensemble_images(network, images, labels, static=static, eps=eps, norm=norm, generator=generator)[0]
    noise = uniform(seeds, images.shape[1:])
    with frozen(network):
        loss = _attack_loss(network, images, crafting)
        if crafting.kind == "n_fgsm":
            return _n_fgsm(network, images, labels, loss, eps, norm, noise)
        around = ball(images, eps, norm)
        return ascend(network, around.start(noise), labels, around, loss, crafting.passes, crafting.step_size(eps))


def _attack_loss(network: nn.Module, images: Tensor, crafting: Crafting) -> AttackLoss:
    if not crafting.divergence:
        return cross_entropy
    with torch.no_grad():
        return divergence_from(precise(network(images)).softmax(1))


def _n_fgsm(network: nn.Module, images: Tensor, labels: Tensor, loss: AttackLoss, eps: float, norm: str,
            noise: Tensor) -> Tensor:
    """Noise of twice the radius and one step of the radius, without a projection into the ball."""
    start = (images + _NOISE * eps * (2 * noise - 1)).clamp(0, 1) if norm == "linf" \
        else ball(images, _NOISE * eps, norm).start(noise)
    _, _, gradient = input_gradient(network, start, labels, loss)
    return ball(start, eps, norm).step(start, gradient, eps)
