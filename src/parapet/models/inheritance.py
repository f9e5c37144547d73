"""Warm start of a network with the weights of another one, whose width and depth may differ.

Growth preserves the function, as in Net2Net (Chen, Goodfellow, Shlens 2016) and network morphism (Wei et al. 2016):
inherited units have weight 0 for new inputs, and a new block is the identity. Shrinking keeps the first channels and
blocks, as in slimmable networks (Yu et al. 2019).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from parapet.models.backbones.blocks import (
    Convolution,
    NormalisedConvolution,
    PlainBlock,
    ResidualBlock,
    SeparableBlock,
)
from parapet.models.network import Network


@torch.no_grad()
def inherit(network: Network, parent: Network) -> int:
    """Copy the common weights of `parent` into `network`, both on the CPU; returns how many numbers were copied.

    Further units of `network` keep their initial weights, and inherited units have weight 0 for them. Further blocks
    become the identity where their form allows it. The statistics of the images stay those of `network`.
    """
    _pass_through(network, parent)
    theirs, inherited = parent.state_dict(), 0
    genes = [(each.genome.denoiser, each.genome.denoiser_stage) for each in (network, parent)]
    kept = ("normalise.",) if genes[0] == genes[1] else ("normalise.", "denoiser.")
    for name, own in network.state_dict().items():
        if name not in theirs or name.startswith(kept) or own.dim() != theirs[name].dim():
            continue
        inherited += _copy_overlap(own, theirs[name])
    return inherited


def _copy_overlap(own: Tensor, theirs: Tensor) -> int:
    """Copy the common part; inherited outputs get weight 0 for the other inputs."""
    corner = tuple(slice(min(mine, other)) for mine, other in zip(own.shape, theirs.shape))
    if own.dim() >= 2 and own.shape[1] > theirs.shape[1]:
        own[corner[0], theirs.shape[1]:] = 0
    own[corner] = theirs[corner]
    return own[corner].numel()


def _pass_through(network: Network, parent: Network) -> None:
    """Make every block that `parent` lacks the identity, which is possible because each keeps the shape."""
    known = {name for name, _ in parent.named_modules()}
    for name, block in network.named_modules():
        if name in known:
            continue
        if isinstance(block, ResidualBlock) and block.shortcut is None:
            nn.init.zeros_(cast(Convolution, block.residual[-1]).weight)
        elif isinstance(block, PlainBlock | SeparableBlock):
            for layer in block:
                if isinstance(layer, NormalisedConvolution):
                    _identity(layer)


def _identity(layer: NormalisedConvolution) -> None:
    nn.init.dirac_(layer.convolution.weight, groups=layer.convolution.groups)
