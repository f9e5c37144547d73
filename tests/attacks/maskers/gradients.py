"""Gradients that are not there, or that are not those of the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.attacks.maskers.base import Model, drawn_from


class _Backward(torch.autograd.Function):
    """The identity, with a backward pass of its own."""

    @staticmethod
    def forward(ctx, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return values.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.change(gradient), None


def with_gradient(network: Model, change: Callable[[Tensor], Tensor]) -> Model:
    return lambda images: network(_Backward.apply(images, change))


def sign_quantised(network: Model) -> Model:
    """Pixels of one bit, and no stand-in on the way back."""
    return lambda images: network((images > 0.5).float())


def gradient_killed(network: Model) -> Model:
    """A layer that lets no gradient through, and a trace of one so that the graph looks whole."""
    return lambda images: network(images.detach()) + 0 * images.sum()


def no_graph(network: Model) -> Model:
    """Logits without any graph."""
    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images)
    return model


def bit_depth_without_bpda(network: Model, levels: int = 7) -> Model:
    """Three-bit pixels whose rounding has a gradient of zero."""
    return lambda images: network(torch.round(images * levels) / levels)


def thermometer(network: Model, levels: int = 10) -> Model:
    """Pixels counted in thresholds (Buckman et al. 2018), put together again, and no gradient."""
    steps = torch.linspace(0, 1, levels + 1)[1:]
    return lambda images: network((images[..., None] >= steps).float().mean(-1))


def gradient_turned(network: Model) -> Model:
    """Gradients with the wrong sign."""
    return with_gradient(network, torch.neg)


def gradient_noise(network: Model) -> Model:
    """Gradients drowned in noise ten times their size."""
    return with_gradient(network, lambda gradient: gradient + 10 * gradient.abs().mean() * torch.randn_like(gradient))


def gradient_replaced(network: Model) -> Model:
    """A made-up gradient of the right size."""
    return with_gradient(network, lambda gradient: gradient.flip(0, 2, 3))


def gradient_nan(network: Model) -> Model:
    """Gradients that are no numbers."""
    return with_gradient(network, lambda gradient: gradient * torch.nan)


def gradient_sparse(network: Model) -> Model:
    """The gradient of one pixel in fifty."""
    def change(gradient: Tensor) -> Tensor:
        keep = torch.zeros_like(gradient).flatten(1)
        keep[:, ::50] = 1
        return gradient * keep.reshape(gradient.shape)
    return with_gradient(network, change)


def gradient_underflow(network: Model) -> Model:
    """Gradients so small that float32 holds none of them."""
    return with_gradient(network, lambda gradient: gradient * 1e-30 * 1e-30)


def shattered(network: Model) -> Model:
    """Ripples on every pixel, too fine to see and steeper than the image itself."""
    return lambda images: network(images + 0.02 * torch.sin(2000 * images))


def squashed_input(network: Model) -> Model:
    """Pixels pressed to 0 and 1 by a steep sigmoid, whose slope is nothing almost everywhere."""
    return lambda images: network(torch.sigmoid(300 * (images - 0.5)))


def gradient_far_from_data(known: Tensor) -> Callable[[Model], Model]:
    """Gradients at the clean images `known`, and none anywhere else: those who look there alone are content."""
    def wrap(network: Model) -> Model:
        flat = known.flatten(1)

        def model(images: Tensor) -> Tensor:
            near = (images.detach().flatten(1)[:, None] - flat[None]).abs().amax(2).amin(1) < 1e-6
            return network(torch.where(near.reshape(-1, 1, 1, 1), images, images.detach()))
        return model
    return wrap


def gradient_of_another(network: Model, smooth: Model) -> Model:
    """The logits of one network with the gradients of another, which are smooth and lead elsewhere."""
    def model(images: Tensor) -> Tensor:
        shown = smooth(images)
        return shown + (network(images.detach()) - shown).detach()
    return model


def gradient_killed_at_random(network: Model) -> Model:
    """No gradient for half of all images, which half is a matter of their last bits."""
    def model(images: Tensor) -> Tensor:
        dead = (drawn_from(images.detach(), 1) < 0.5)[:, :, None, None]
        return network(torch.where(dead, images.detach(), images))
    return model
