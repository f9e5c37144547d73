"""Which layers of a module let no gradient through, so that they can be attacked through a stand-in (`Bpda`).

Athalye, Carlini, Wagner 2018, "Obfuscated Gradients Give a False Sense of Security", section 4.1: where a layer cannot
be differentiated and gives about what it was given, the way back takes the identity in its place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.inputs import Model, ask

# A layer whose gradient has less than this share of the mean size of one that passes everything on lets none through.
_TINY = 1e-6


def blocking_layers(model: Model, images: Tensor) -> list[nn.Module]:
    """The innermost layers of `model` that keep the shape of what they are given, answer differently to different
    images, and whose input gradient is nothing; none for a bare callable. images: float (N, C, H, W) in [0, 1]."""
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
    blocking = [layer for layer, (given, answer) in seen.items() if _varies(answer) and _blocks(layer, given)]
    return [layer for layer in blocking
            if not any(inner in blocking for inner in layer.modules() if inner is not layer)]


def _varies(answer: Tensor) -> bool:
    return len(answer) > 1 and bool((answer - answer[:1]).abs().amax() > 0)


def _blocks(layer: nn.Module, given: Tensor) -> bool:
    """Whether the gradient of what the layer answers, along a direction, to what it was given is nothing.

    The direction is no constant: a normalisation answers with a sum that does not change.
    """
    with torch.enable_grad():
        points = given.clone().requires_grad_()
        try:
            answer = layer(points.clone())
        except RuntimeError:  # one that cannot be asked by itself is left as it is
            return False
        if not answer.requires_grad:
            return True
        direction = torch.sin(torch.arange(answer.numel(), device=answer.device, dtype=answer.dtype))
        gradient, = torch.autograd.grad((answer.flatten() * direction).sum(), points, allow_unused=True)
    return gradient is None or float(gradient.nan_to_num().abs().mean()) < _TINY
