"""Networks for the tests of the audit: honest ones of many kinds, and some whose training taught them to mask."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from parapet.config import ThreatModel, TrainingConfig
from parapet.data.dataset import Dataset
from parapet.genome import Genome
from parapet.models import build
from parapet.training import TrainingRun, train

_BODY = {"width": 8, "depth": 2, "activation": "silu", "learning_rate": 0.4, "steps": 2}
# Kind: genome, epochs, label smoothing. Sizes, losses, activations, families, denoisers and declared filters.
HONEST_DIGITS: dict[str, tuple[Genome, int, float]] = {
    "standard": (Genome(**_BODY, loss="standard"), 8, 0.0),
    "pgd": (Genome(**_BODY, loss="pgd"), 8, 0.0),
    "trades": (Genome(**_BODY, loss="trades", trades_beta=4.0), 8, 0.0),
    "trades, small logits": (Genome(**_BODY, loss="trades", trades_beta=6.0, eps_ratio=1.25,
                                    input_filter="bit_depth"), 8, 0.0),
    "smoothed labels": (Genome(**_BODY, loss="pgd"), 8, 0.1),
    "small": (Genome(**{**_BODY, "width": 4, "depth": 1}, loss="pgd"), 8, 0.0),
    "relu": (Genome(**{**_BODY, "activation": "relu", "steps": 3}, loss="pgd"), 8, 0.0),
    "separable": (Genome(**_BODY, backbone="separable", loss="pgd"), 8, 0.0),
    "median denoiser": (Genome(**_BODY, loss="pgd", denoiser="median"), 8, 0.0),
    "bit depth": (Genome(**_BODY, loss="pgd", input_filter="bit_depth"), 8, 0.0),
    "median filter": (Genome(**_BODY, loss="pgd", input_filter="median"), 8, 0.0),
}
HONEST_MNIST: dict[str, tuple[Genome, int]] = {
    "pgd": (Genome(width=4, depth=1, activation="relu", loss="pgd", steps=2, learning_rate=0.3), 5),
    "trades": (Genome(width=8, depth=1, loss="trades", trades_beta=4.0, steps=2, learning_rate=0.3), 5),
}


def trained(data: Dataset, genome: Genome, epochs: int, smoothing: float = 0.0, *, seed: int = 1) -> nn.Module:
    """A network trained by Parapet at L-inf 0.2."""
    torch.set_num_threads(1)
    config = TrainingConfig(epochs=epochs, label_smoothing=smoothing, validation_images=300)
    return train(TrainingRun.of(genome, data, config=config, threat=ThreatModel(eps=0.2), seed=seed)).network


def trained_plainly(data: Dataset, *, epochs: int, width: int = 16, activation: str = "relu",
                    label_smoothing: float = 0.0, fgsm_eps: float | None = None, seed: int = 1) -> nn.Module:
    """SGD without any of our care: on clean images, or on single steps of `fgsm_eps` without a random start."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    genome = Genome(width=width, depth=2, activation=activation, loss="standard")
    network = build(genome, (1, 8, 8), 10, generator=generator, mean=torch.tensor(data.mean),
                    std=torch.tensor(data.std)).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9, nesterov=True)
    images, labels = data.split("train").all()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            points = images[rows]
            if fgsm_eps is not None:
                points.requires_grad_()
                network.eval()
                slope, = torch.autograd.grad(cross_entropy(network(points), labels[rows]), points)
                network.train()
                points = (points.detach() + fgsm_eps * slope.sign()).clamp(0, 1)
            loss = cross_entropy(network(points), labels[rows], label_smoothing=label_smoothing)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
    return network.eval()
