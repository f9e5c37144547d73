"""Terms that are added to a loss: functions of (model, images, labels, adversarial images) to a scalar of at least 0.

`logits` are those of an earlier forward pass; a regulariser without them makes its own pass. One that differentiates by
the images needs, beside the logits, the same tensors that went into the pass, and these have to require a gradient.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from parapet.attacks.balls import ball
from parapet.attacks.noise import Generator, image_seeds, uniform
from parapet.attacks.objectives import log_odds
from parapet.training.losses.one_pass import Logits, one_pass, required

# Smaller positive float32 numbers are denormal.
_TINY = 1.2e-38


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
                   logits: Logits | None = None, **rest: Any) -> Tensor:
    """|d CE / d image|^2, summed over pixels, averaged over the clean images (N, C, H, W); backward goes through it.

    Ross and Doshi-Velez 2018; Drucker and Le Cun 1992 named it double backpropagation.
    """
    if logits is None:
        images = images.detach().requires_grad_()
        logits = one_pass(model, clean=images)
    gradient, = torch.autograd.grad(_summed(required(logits.clean), labels), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def gradient_alignment(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
                       eps: float, norm: str = "linf", seeds: Generator | None = None,
                       noisy: Tensor | None = None, logits: Logits | None = None, **rest: Any) -> Tensor:
    """1 - cos(gradient of CE at x, gradient at a random point of the ball), averaged over the images, in [0, 2].

    Andriushchenko and Flammarion 2020 (GradAlign), against catastrophic overfitting. The point is drawn as
    `noisy_images` says, from `seeds`, int64 (N,). An image without a gradient at either point counts 0. If `logits` is
    given, `noisy` must hold these points.
    """
    if logits is None:
        images = images.detach().requires_grad_()
        noisy = noisy_images(images.detach(), eps, norm, seeds).requires_grad_()
        logits = one_pass(model, clean=images, noisy=noisy)
    # Log-odds have the direction of cross-entropy's gradient, also where that rounds to 0. One backward pass for both,
    # because every one of them runs through the whole batch of the forward pass.
    losses = log_odds(required(logits.clean), labels).sum() + log_odds(required(logits.noisy), labels).sum()
    points = images, required(noisy)
    here, there = (part.flatten(1) for part in torch.autograd.grad(losses, points, create_graph=True))
    present = (here.detach() != 0).any(1) & (there.detach() != 0).any(1)
    return ((1 - cosine_similarity(_scaled(here), _scaled(there))).clamp(min=0) * present).mean()


def logit_squeezing(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None = None, *,
                    logits: Logits | None = None, **rest: Any) -> Tensor:
    """|logits|^2, summed over classes, averaged over the clean and adversarial images of the pass.

    Kannan, Kurakin and Goodfellow 2018, who add Gaussian noise to the images. PGD on the margin with many steps and
    restarts breaks it (Mosbach et al. 2018, "Logit Pairing Methods Can Fool Gradient-Based Attacks").
    """
    if logits is None:
        logits = one_pass(model, clean=images)
    given = [part for part in (logits.clean, logits.adversarial) if part is not None]
    return cast(Tensor, sum(part.square().sum(1).mean() for part in given)) / len(given)


def noisy_images(images: Tensor, eps: float, norm: str, seeds: Generator | None) -> Tensor:
    """A random point for each image, the same for the same seed: L-inf, uniform in the part of the ball that lies in
    [0, 1]; L2, on the sphere, clipped to [0, 1]."""
    return ball(images, eps, norm).start(uniform(image_seeds(len(images), seeds, images.device), images.shape[1:]))


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the images: its gradient with respect to an image is that of the image's own
    cross-entropy, unless batch norm in training mode makes images depend on each other."""
    return cross_entropy(logits, labels, reduction="sum")


def _scaled(gradient: Tensor) -> Tensor:
    """Scaled so that the largest absolute entry is 1: gradients of confident models are smaller than the eps of
    `cosine_similarity`."""
    return gradient / gradient.detach().abs().amax(1, keepdim=True).clamp(min=_TINY)
