"""MOREL's training-only part: the embedding head, and where it gets its features from.

Hotegni and Peitz 2025, "Enhancing Adversarial Robustness through Multi-Objective Representation Learning". The head is
a module of its own: its parameters go to the optimiser beside the network's, and it is dropped with the training run,
so that the saved network costs what it would cost without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from parapet.errors import InputError


class MorelHead(nn.Module):
    """Features (N, F) to embeddings (N, 128): linear, then attention among the images of one class, plus residual."""

    def __init__(self, features: int, generator: torch.Generator, *, dimensions: int = 128, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        with torch.random.fork_rng(devices=[]):
            self.embed = nn.Linear(features, dimensions)
            self.norm = nn.LayerNorm(dimensions, eps=1e-6)
            self.attend = nn.Linear(dimensions, 3 * dimensions)
            self.join = nn.Linear(dimensions, dimensions)
        for layer in (self.embed, self.attend, self.join):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(embeddings, the same after class-wise attention), each (..., N, dimensions).

        `features` (..., N, F) may hold several versions of the N images, which do not see each other; labels (N,).
        """
        embedded = self.embed(features)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
                                 for part in self.attend(self.norm(embedded)).chunk(3, dim=-1))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        # Every image has its own label, so that no row of the mask is empty.
        weights = scores.masked_fill(labels[:, None] != labels, -torch.inf).softmax(-1)
        return embedded, embedded + self.join((weights @ values).transpose(-2, -3).flatten(-2))


def classifier_layer(model: nn.Module) -> nn.Linear:
    """The last nn.Linear in the order of `model.modules()`: the layer whose input is taken for the features.

    True of networks that end in a linear layer which was assigned last. Raises InputError where there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise InputError(f"{type(model).__name__} has no linear layer; MOREL takes the input of the last one for its "
                         "features.")
    return layers[-1]


@contextmanager
def features_of(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """A list that grows by the layer's input (N, F) with each forward pass inside the block.

    So the features cost no pass of their own. A model that was compiled before the block may not call the hook.
    """
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
