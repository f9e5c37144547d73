"""Residual, plain and depthwise-separable blocks; each keeps the image size or halves it by `stride`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from parapet.catalogue.networks import ACTIVATIONS
from parapet.catalogue.spec import resolve


def activation_of(name: str) -> nn.Module:
    """A new activation, called by its word in the catalogue."""
    activation: nn.Module = resolve(ACTIVATIONS[name].builder)()
    return activation


def relu() -> nn.Module:
    """An in-place ReLU: the convolution or batch norm before it does not need its output in the backward pass."""
    return nn.ReLU(inplace=True)


class SelfInitialised(nn.Module):
    """A module whose own parameters or buffers are initialised by itself when a network is built."""

    def initialise(self, generator: torch.Generator) -> None:
        """Set the start values; random ones are drawn from `generator`."""
        raise NotImplementedError


class Convolution(nn.Conv2d):
    """A convolution that selects the pixels itself where its kernel is 1x1 and its stride is larger than 1.

    oneDNN 3.13 (torch 2.15) writes past the end of a buffer in the backward pass for the weights of such a convolution,
    on processors with AVX2 and without AVX-512, for channels last and fewer than 8 input channels.
    """

    # Whether `build` initialises its weights with zeros.
    starts_at_zero = False

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        return self.convolve(features, self.weight, self.bias)

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same convolution with another weight and bias of the same shapes."""
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            down, right = self.stride
            return conv2d(features[..., ::down, ::right], weight, bias, groups=self.groups)
        return conv2d(features, weight, bias, self.stride, self.padding, groups=self.groups)


def convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1, groups: int = 1) -> Convolution:
    """A convolution without bias, padded so that stride 1 keeps the image size."""
    return Convolution(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)


class NormalisedConvolution(nn.Module):
    """A convolution and its batch norm; in evaluation mode the two are folded into one convolution.

    Adversarial images are computed in evaluation mode, where a separate batch norm costs a fifth of the time. While
    `remembers` is set, the folded convolution is kept from one forward pass to the next; the caller promises not to
    change the parameters meanwhile.
    """

    def __init__(self, inputs: int, outputs: int, *, size: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = convolution(inputs, outputs, size=size, stride=stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs)
        self._remembers = False
        self._kept: tuple[Tensor, Tensor] | None = None

    @property
    def remembers(self) -> bool:
        """Whether parameters and statistics are promised not to change; setting it deletes the kept convolution."""
        return self._remembers

    @remembers.setter
    def remembers(self, promised: bool) -> None:
        self._remembers, self._kept = promised, None

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        if self.training:
            normalised: Tensor = self.norm(self.convolution(features))
            return normalised
        return self.convolution.convolve(features, *self._folded())

    def _folded(self) -> tuple[Tensor, Tensor]:
        """(weight, bias) of the folded convolution."""
        layer, norm = self.convolution, self.norm
        mean: Tensor = norm.running_mean  # type: ignore[assignment] # None only in norms without statistics
        variance: Tensor = norm.running_var  # type: ignore[assignment] # likewise
        parts = (layer.weight, norm.weight, norm.bias, mean, variance)
        if not self._remembers or torch.compiler.is_compiling() or any(part.requires_grad for part in parts):
            return _fold(*parts, norm.eps)
        kept = self._kept
        if kept is None:
            with torch.inference_mode(False):
                weight, bias = _fold(*parts, norm.eps)
                # With channels last oneDNN need not convert to its own layout and back at every convolution.
                self._kept = kept = weight.contiguous(memory_format=torch.channels_last), bias
        return kept


def _fold(weight: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor,
          eps: float) -> tuple[Tensor, Tensor]:
    scale = gain * torch.rsqrt(variance + eps)
    return weight * scale.reshape(-1, 1, 1, 1), shift - mean * scale


class PlainBlock(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__(NormalisedConvolution(inputs, outputs, stride=stride), activation_of(activation))


class SeparableBlock(nn.Sequential):
    """Depthwise 3x3 and pointwise 1x1 convolution (Howard et al. 2017, MobileNets)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__(NormalisedConvolution(inputs, inputs, stride=stride, groups=inputs),
                         activation_of(activation), NormalisedConvolution(inputs, outputs, size=1),
                         activation_of(activation))


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016, Identity Mappings)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), activation_of(activation))
        self.residual = nn.Sequential(NormalisedConvolution(inputs, outputs, stride=stride),
                                      activation_of(activation), convolution(outputs, outputs))
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else convolution(inputs, outputs, size=1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        active = self.before(features)
        shortcut: Tensor = features if self.shortcut is None else self.shortcut(active)
        residual: Tensor = self.residual(active)
        return shortcut + residual
