"""The whole space of architectures, every known word and every stage, and images that each backbone can read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from parapet.catalogue.genes import GENES
from parapet.catalogue.networks import BACKBONES
from parapet.genome import Genome
from parapet.models.denoisers import Denoiser
from parapet.models.network import Network

KNOWN = {gene.name: gene.known for gene in GENES.values() if gene.known}
WORDS = ("activation", "denoiser", "input_filter")


def architectures(backbone: str) -> Iterator[Genome]:
    """Every different architecture of `backbone` at one small size."""
    stages = range(1, BACKBONES[backbone].stages + 1)
    found = (Genome(backbone=backbone, width=4, depth=1, denoiser_stage=stage, **dict(zip(WORDS, words)))
             for stage in stages for words in itertools.product(*(KNOWN[name] for name in WORDS)))
    yield from dict.fromkeys(genome.canonical() for genome in found)


def smallest_images(backbone: str) -> tuple[int, int, int]:
    """A shape for cheap tests."""
    return (1, 16, 16) if backbone == "small_cnn" else (1, 8, 8)


def as_trained(network: Network, generator: torch.Generator) -> Network:
    """`network` in eval mode with what training leaves: statistics of batch norms, denoisers that do something, and
    without batch norm weights through which an image still reaches the logits (He et al. 2015)."""
    if network.genome.backbone == "small_cnn":
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.weight.requires_grad:
                torch.nn.init.kaiming_normal_(module.weight, generator=generator)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            torch.nn.init.normal_(module.weight, 1, 0.2, generator=generator)
        elif isinstance(module, Denoiser) and isinstance(module.mix, torch.nn.Conv2d):
            torch.nn.init.normal_(module.mix.weight, std=0.1, generator=generator)
    return network.eval()
