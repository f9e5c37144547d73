"""A whole attack, ours or a peer's, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.attacks import peers
from benchmarks.attacks.replay import Pass, Recorder, replay, timed
from benchmarks.machine import peak
from benchmarks.processes import ContestantProcess

# Enough for kernels to be chosen and caches to fill.
_WARM_UP = 16


@dataclass(frozen=True)
class Setting:
    """The net's weights, the prepared data set, how many of its test images, the radius, where it runs."""

    net: Path
    dataset: Path
    images: int
    eps: float
    device: str = "cpu"
    threads: int | None = None


class Contestant(ContestantProcess):
    """The process of "ours" (which also does the bare passes) or of a peer, in the contest called `contest`."""

    def __init__(self, setting: Setting, contest: str, who: str) -> None:
        super().__init__(_serve, setting, contest, who)

    def attack(self) -> tuple[float, float]:
        """(seconds, share of the images that survive inside the ball) of one whole attack."""
        return self.ask("attack")

    def record(self) -> list[Pass]:
        """The passes of one whole attack."""
        return self.ask("record")

    def ready(self) -> None:
        """Wait until the process has imported everything and warmed up."""
        self.ask("ready")

    def bare(self) -> float:
        """Seconds of the recorded passes and nothing else."""
        return self.ask("bare")

    def machine(self) -> tuple[int, float]:
        """(FLOPs of one image's forward pass, the FLOP/s that the device reaches in a large matrix product)."""
        return self.ask("machine")


def _serve(pipe: Any, setting: Setting, contest: str, who: str) -> None:
    from benchmarks.attacks.contests import contests
    from parapet.attacks.balls import distance
    from parapet.attacks.inputs import predict
    from parapet.data.dataset import Dataset
    from parapet.models import load
    from parapet.models.cost import count_flops

    if setting.threads:
        torch.set_num_threads(setting.threads)
    if who != "ours":
        peers.find((who,))
    device = torch.device(setting.device)
    found = contests(setting.eps, [contest], device=device.type)[0]
    run, norm = (found.ours if who == "ours" else found.others[who]), found.norm
    model = load(setting.net, setting.device)
    images, labels = Dataset.open(setting.dataset).split("test", setting.device, setting.images).all()
    passes: list[Pass] = []
    run(model, images[:_WARM_UP], labels[:_WARM_UP])
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        if what == "attack":
            seconds, points = timed(run, model, images, labels, device=device)
            fooled = (predict(model, points) != labels) & (distance(points, images, norm) <= setting.eps + 1e-6)
            pipe.send((seconds, 1 - float(fooled.float().mean())))
        elif what == "record":
            recorder = Recorder(model)
            run(recorder, images, labels)
            passes = recorder.passes
            pipe.send(passes)
        elif what == "ready":
            pipe.send(None)
        elif what == "machine":
            pipe.send((count_flops(model, tuple(images.shape[1:])), peak(device)))
        else:
            pipe.send(timed(replay, model, images, passes, device=device)[0])
