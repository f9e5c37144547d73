"""Finds the layers of a module that block gradients, so that they can be attacked through an approximation (`Bpda`).

Athalye, Carlini, Wagner 2018, "Obfuscated Gradients Give a False Sense of Security", section 4.1: where a layer cannot
be differentiated and its output is close to its input, the backward pass uses the identity instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.inputs import Model, ask

# A layer blocks gradients if the mean absolute value of its gradient is below this; that of the identity is about 0.6.
_TINY = 1e-6


def blocking_layers(model: Model, images: Tensor) -> list[nn.Module]:
    """The innermost layers of `model` that keep the shape of their input, return different outputs for different
    images, and whose input gradient vanishes; empty for a plain callable. images: float (N, C, H, W) in [0, 1]."""
    if not isinstance(model, nn.Module):
        return []
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor) \
                and inputs[0].shape == output.shape and inputs[0].is_floating_point() and output.is_floating_point():
            seen[layer] = inputs[0].detach().clone(), output.detach().clone()
    hooks = [layer.register_forward_hook(keep) for layer in model.modules() if layer is not model]
    try:
        with torch.no_grad():
            ask(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    blocking = [layer for layer, (given, output) in seen.items() if _varies(output) and _blocks(layer, given)]
    return [layer for layer in blocking
            if not any(inner in blocking for inner in layer.modules() if inner is not layer)]


def _varies(output: Tensor) -> bool:
    return len(output) > 1 and bool((output - output[:1]).abs().amax() > 0)


def _blocks(layer: nn.Module, given: Tensor) -> bool:
    """Whether the input gradient of a fixed linear function of the layer's output vanishes.

    The coefficients are not constant: the sum of a normalisation's outputs does not depend on its input.
    """
    with torch.enable_grad():
        points = given.clone().requires_grad_()
        try:
            output = layer(points.clone())
        except RuntimeError:  # a layer that cannot be called by itself is not replaced
            return False
        if not output.requires_grad:
            return True
        coefficients = torch.sin(torch.arange(output.numel(), device=output.device, dtype=output.dtype))
        gradient, = torch.autograd.grad((output.flatten() * coefficients).sum(), points, allow_unused=True)
    return gradient is None or float(gradient.nan_to_num().abs().mean()) < _TINY
