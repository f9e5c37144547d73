"""An exponential moving average of the weights, which is the network that is validated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """average <- decay * average + (1 - decay) * weights after each step, batch norm's statistics included.

    Izmailov et al. 2018 for plain means, Gowal et al. 2020 ("Uncovering the Limits of Adversarial Training", section
    4.3) for the exponential one in adversarial training. Early on the decay is (1 + steps) / (10 + steps) where that is
    smaller, so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """decay in [0, 1); 0 keeps no average."""
        self.decay, self.steps = decay, 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after an optimiser's step."""
        if not self.decay:
            return
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, share)
            else:
                self.weights[name].copy_(value)

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[None]:
        """The network holds the averaged weights inside the block; afterwards its own, bit for bit."""
        if not self.decay:
            yield
            return
        own: dict[str, Tensor] = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)
