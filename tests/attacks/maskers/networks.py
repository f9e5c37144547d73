"""The networks behind the maskers: trained on the digits in seconds, kept in a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from parapet.config import ThreatModel, TrainingConfig
from parapet.data.dataset import Dataset
from parapet.genome import Genome
from parapet.models import load, save
from parapet.training import TrainingRun, train
from tests.attacks.maskers.base import Networks
from tests.attacks.maskers.literature import winners_network

_BODY = {"width": 8, "depth": 2, "activation": "silu"}
# Name: genome, epochs, seed.
TRAINED: dict[str, tuple[Genome, int, int]] = {
    "undefended": (Genome(**_BODY, loss="standard"), 8, 1),
    "second": (Genome(**_BODY, loss="standard"), 8, 2),
    "third": (Genome(**_BODY, loss="standard"), 8, 3),
    "robust": (Genome(**_BODY, loss="pgd", steps=2, learning_rate=0.4), 8, 1),
}
_KNOWN = 200


def trained_winners(data: Dataset, seed: int = 0) -> nn.Module:
    """A network with k-winners-take-all activations, trained on clean images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = winners_network().train()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    images, labels = data.split("train").all()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(15):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            optimiser.zero_grad()
            cross_entropy(network(images[rows]), labels[rows]).backward()
            optimiser.step()
    return network.eval()


def prepare(data: Dataset, folder: Path) -> Path:
    """Train what is not yet in `folder`, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (genome, epochs, seed) in TRAINED.items():
        if not (folder / f"{name}.safetensors").exists():
            network = train(TrainingRun.of(
                genome, data, config=TrainingConfig(epochs=epochs, validation_images=300), seed=seed,
                threat=ThreatModel(eps=0.2))).network
            save(network, folder / f"{name}.safetensors")
    if not (folder / "winners.safetensors").exists():
        images, labels = data.split("train", limit=_KNOWN).all()
        weights = {f"network.{name}": value for name, value in trained_winners(data).state_dict().items()}
        save_file({**weights, "known": images.contiguous(), "known_labels": labels}, folder / "winners.safetensors")
    return folder


def networks(folder: Path) -> Networks:
    """What `prepare` left in `folder`."""
    tensors = load_file(folder / "winners.safetensors")
    winners = winners_network()
    winners.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items()
                             if name.startswith("network.")})
    # Nobody trains them further, and a masker may be a closure, whose parameters `frozen` does not find.
    return Networks(**{name: load(folder / f"{name}.safetensors").requires_grad_(False) for name in TRAINED},
                    winners=winners.eval().requires_grad_(False), known=tensors["known"],
                    known_labels=tensors["known_labels"])
