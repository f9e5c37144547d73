"""The cost of a network: FLOPs by torch's counter, and the number of parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_flops(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of one forward pass of one image (C, H, W), a multiply-add counted as two.

    torch's counter counts convolutions and matrix products; minima, maxima and activations count as 0.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, *image_shape, device=device))
    finally:
        network.train(training)
    flops: int = counter.get_total_flops()
    return flops


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
