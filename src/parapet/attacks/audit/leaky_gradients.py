"""Lets gradients pass inactive units: activations in their flat part, and gates that choose between two values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Functions of one tensor that are flat somewhere. ReLU and threshold often work in place, so they are handled in the
# backward pass.
_ACTIVATIONS = frozenset({
    torch.clamp, Tensor.clamp, torch.clip, Tensor.clip, torch.clamp_min, Tensor.clamp_min, torch.clamp_max,
    Tensor.clamp_max, functional.relu6, functional.hardtanh, functional.hardswish, functional.hardsigmoid,
    functional.leaky_relu, functional.gelu, functional.silu, functional.mish, functional.elu, functional.selu,
    functional.celu, functional.softplus, functional.softshrink, functional.hardshrink, torch.sigmoid, Tensor.sigmoid,
    functional.sigmoid, torch.tanh, Tensor.tanh, functional.tanh})
# Functions that choose between two tensors, their last two arguments.
_WHERE = frozenset({torch.where, Tensor.where})
_GATES = _WHERE | frozenset({torch.maximum, Tensor.maximum, torch.minimum, Tensor.minimum, torch.max, Tensor.max,
                             torch.min, Tensor.min})
# Products, perhaps with a mask that has no gradient.
_PRODUCTS = frozenset({torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply, Tensor.multiply})


class LeakyGradients(TorchFunctionMode):
    """In this block inactive activations and gates pass at least the share `leak` of the gradient; values are kept.

    This holds for an activation in its flat part (ReLU below 0, clamp outside its range), and for the side that a
    maximum, `torch.where` or a mask of zeros does not select.
    """

    def __init__(self, leak: float) -> None:
        super().__init__()
        self._leak, self._backward = leak, _LeakyReLUBackward(leak)

    def __enter__(self) -> LeakyGradients:
        self._backward.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._backward.__exit__(*raised)

    def __torch_function__(self, function: Any, types: Any, given: tuple[Any, ...] = (),
                           named: dict[str, Any] | None = None) -> Any:
        named = named or {}
        if self._leak and torch.is_grad_enabled():
            if function in _ACTIVATIONS and given and _requires_gradient(given[0]):
                kept = {**named, "inplace": False} if named.get("inplace") else named
                return _Activation.apply(given[0], lambda inputs: function(inputs, *given[1:], **kept), self._leak)
            pair = given[-2:] if function in _GATES | _PRODUCTS and not named and len(given) > 1 else ()
            if any(map(_requires_gradient, pair)) and (
                    function in _WHERE or all(isinstance(part, Tensor) for part in pair)):
                return _leaky_gate(function, given, self._leak)
        return function(*given, **named)


class _LeakyReLUBackward(TorchDispatchMode):
    """In this block the backward pass of every ReLU passes the share `leak` of the gradient where the unit is off."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        self._leak = leak

    def __torch_dispatch__(self, function: Any, types: Any, given: tuple[Any, ...] = (),
                           named: dict[str, Any] | None = None) -> Any:
        if function is torch.ops.aten.threshold_backward.default:
            gradient, features, threshold = given
            return torch.where(features > threshold, gradient, self._leak * gradient)
        return function(*given, **(named or {}))


class _Activation(torch.autograd.Function):
    """An elementwise function whose slope is replaced by `leak` where it is smaller."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, function: Callable[[Tensor], Tensor], leak: float) -> Tensor:
        ctx.function, ctx.leak = function, leak
        ctx.save_for_backward(inputs)
        return function(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        with torch.enable_grad():
            inputs = ctx.saved_tensors[0].detach().requires_grad_()
            slope, = torch.autograd.grad(ctx.function(inputs).sum(), inputs)
        return gradients[0] * torch.where(slope.abs() < ctx.leak, ctx.leak, slope), None, None


def _leaky_gate(function: Callable[..., Tensor], given: tuple[Any, ...], leak: float) -> Tensor:
    """`function(*given)`, where either of its last two arguments passes `leak` if it does not affect the value."""
    values = function(*given)
    for place in (len(given) - 2, len(given) - 1):
        if not _requires_gradient(given[place]):
            continue
        parts = [part.detach() if isinstance(part, Tensor) else part for part in given]
        parts[place].requires_grad_()
        slope, = torch.autograd.grad(function(*parts).sum(), parts[place])
        zero = (given[place] - given[place].detach()).nan_to_num()  # inf - inf is NaN
        values = values + leak * (slope == 0) * zero
    return values


def _requires_gradient(part: Any) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point() and part.requires_grad
