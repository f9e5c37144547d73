"""Training on some batches, ours or a peer's, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.attacks.replay import timed
from benchmarks.machine import peak
from benchmarks.processes import ContestantProcess
from parapet.config import ThreatModel
from parapet.data.dataset import Dataset
from parapet.data.images import Images
from parapet.genome import Genome
from parapet.models.cost import count_flops
from parapet.models.network import Network, build

# From (network, images, genome, batch size, threat model) to what trains on all of the images once.
Trainer = Callable[[Network, Images, Genome, int, ThreatModel], Callable[[], object]]


@dataclass(frozen=True)
class Setting:
    """The prepared data set, the size of a batch, how many batches a turn takes, the radius, where it runs."""

    dataset: Path
    batch_size: int
    batches: int
    eps: float
    device: str = "cpu"
    threads: int | None = None

    @property
    def images(self) -> int:
        """Images of one turn."""
        return self.batch_size * self.batches


class Contestant(ContestantProcess):
    """The process in which `trainer` trains the network of `genome`, which is the same for everyone."""

    def __init__(self, setting: Setting, genome: Genome, trainer: Trainer) -> None:
        super().__init__(_serve, setting, genome, trainer)

    def turn(self) -> tuple[float, float]:
        """(seconds, seconds of all its threads on a CPU) of training on the images of the setting once."""
        return self.ask("turn")

    def machine(self) -> tuple[int, float]:
        """(FLOPs of one image's forward pass, the FLOP/s that the device reaches in a large matrix product)."""
        return self.ask("machine")


def _serve(pipe: Any, setting: Setting, genome: Genome, trainer: Trainer) -> None:
    if setting.threads:
        torch.set_num_threads(setting.threads)
    device, data = torch.device(setting.device), Dataset.open(setting.dataset)
    images = data.split("train", setting.device, setting.images)
    network = build(genome, data.image_shape, len(data.classes), generator=torch.Generator().manual_seed(0),
                    mean=torch.tensor(data.mean), std=torch.tensor(data.std))
    flops = count_flops(network, data.image_shape)
    # In the precision that our training uses.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    epoch = trainer(network, images, genome, setting.batch_size, ThreatModel(eps=setting.eps))
    epoch()  # Kernels are chosen, caches fill.
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        if what == "turn":
            before = time.process_time()
            seconds, _ = timed(epoch, device=device)
            pipe.send((seconds, time.process_time() - before))
        else:
            pipe.send((flops, peak(device, dtype)))
