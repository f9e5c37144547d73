"""Networks as after training, small enough to be exported in a second or two."""

from __future__ import annotations

import dataclasses

import torch

from parapet.genome import Genome
from parapet.models import Network, build


def small_network(genome: Genome, shape: tuple[int, int, int] = (1, 8, 8)) -> Network:
    """`genome` with width 4 and depth 1, with statistics that put the folding of batch norms to the test."""
    generator = torch.Generator().manual_seed(0)
    network = build(dataclasses.replace(genome, width=4, depth=1), shape, 10, generator=generator)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()
