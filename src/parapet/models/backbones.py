"""Residual, plain and depthwise-separable blocks; each keeps the image size or halves it by `stride`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus}


def convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded so that stride 1 keeps the image size."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)


class PlainBlock(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__(convolution(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs),
                         ACTIVATIONS[activation]())


class SeparableBlock(nn.Sequential):
    """Depthwise 3x3 and pointwise 1x1 convolution (Howard et al. 2017, MobileNets)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__(convolution(inputs, inputs, stride=stride, groups=inputs), nn.BatchNorm2d(inputs),
                         ACTIVATIONS[activation](), convolution(inputs, outputs, size=1),
                         nn.BatchNorm2d(outputs), ACTIVATIONS[activation]())


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016, Identity Mappings)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), ACTIVATIONS[activation]())
        self.residual = nn.Sequential(convolution(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs),
                                      ACTIVATIONS[activation](), convolution(outputs, outputs))
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else convolution(inputs, outputs, size=1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        active = self.before(features)
        shortcut = features if self.shortcut is None else self.shortcut(active)
        return shortcut + self.residual(active)


BLOCKS: dict[str, Callable[[int, int, int, str], nn.Module]] = {
    "plain": PlainBlock, "residual": ResidualBlock, "separable": SeparableBlock,
}
