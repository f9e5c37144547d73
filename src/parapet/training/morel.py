"""MOREL's training-only part: the embedding head, and the layer whose input it takes as features.

Hotegni and Peitz 2025, "Enhancing Adversarial Robustness through Multi-Objective Representation Learning". The head is
a separate module: the optimiser updates its parameters together with the network's, and it is dropped after training,
so that the saved network is no larger than without it.
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

        `features` (..., N, F) may hold several versions of the N images, without attention between them; labels (N,).
        """
        embedded = self.embed(features)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
                                 for part in self.attend(self.norm(embedded)).chunk(3, dim=-1))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        # Every image shares its label with itself, so that no row is masked completely.
        weights = scores.masked_fill(labels[:, None] != labels, -torch.inf).softmax(-1)
        return embedded, embedded + self.join((weights @ values).transpose(-2, -3).flatten(-2))


def classifier_layer(model: nn.Module) -> nn.Linear:
    """The last nn.Linear of `model.modules()`; its input is used as the features. InputError where there is none.

    This is the classifier if the network's last layer is linear and assigned last.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise InputError(f"{type(model).__name__} has no linear layer; MOREL takes the input of the last one for its "
                         "features.")
    return layers[-1]


@contextmanager
def features_of(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """A list to which each forward pass inside the block appends the layer's input (N, F).

    The features need no extra pass. A model that was compiled before the block may not call the hook.
    """
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
