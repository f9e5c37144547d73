"""Processes that train one network together, each with a card of its own and a share of every batch.

Data parallelism with one exchange a step (Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data
Parallel Training"): gradients and the statistics of batch norm are averaged, so that weights stay equal everywhere.
torch's own wrapper does so in a network's forward pass, which attacks go through many times a step; here it is done
once, behind the last backward pass.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from parapet.errors import InputError

# A process that is waited for longer than this is dead: an epoch's validation of the others takes less.
_PATIENCE = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class Team:
    """One of `size` processes, the one with number `rank`; by default a process that is alone."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and tells progress."""
        return self.rank == 0

    def check(self, batch_size: int) -> None:
        """InputError for a batch that cannot be shared equally, as the average of the gradients needs it."""
        if batch_size % self.size:
            raise InputError(f"training.batch_size is {batch_size}, which {self.size} processes cannot share equally; "
                             f"make it a multiple of training.gpus, {self.size}.")

    def share(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """This process's rows of each of `tensors` (N, ...), which are the same in every process; N / size each."""
        if self.size == 1:
            return tensors
        rows = len(tensors[0]) // self.size
        return tuple(tensor[self.rank * rows:(self.rank + 1) * rows] for tensor in tensors)

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put the mean over all processes into each of `tensors`, in place, with one exchange for all of them."""
        if self.size == 1:
            return
        tensors = list(tensors)
        together = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(together)
        for tensor, mean in zip(tensors, (together / self.size).split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view(tensor.shape))

    def average_step(self, parameters: Iterable[Tensor], network: nn.Module) -> None:
        """Average what a backward pass left: gradients, and the statistics of `network`'s batch norms."""
        if self.size == 1:
            return
        self.average([*(each.grad for each in parameters if each.grad is not None),
                      *(buffer for buffer in network.buffers() if buffer.is_floating_point())])

    def from_main(self, decide: Callable[[], Any]) -> Any:
        """What `decide` comes to in the main process, in all of them: cards may differ in a last digit, and a
        decision must not. The others wait meanwhile."""
        if self.size == 1:
            return decide()
        said = [decide() if self.is_main else None]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def gather(self, value: Any) -> list[Any]:
        """What each process says, in their order."""
        if self.size == 1:
            return [value]
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, value)
        return said

    def barrier(self) -> None:
        """Wait until every process has come this far, so that none works while the main one waits for the cores."""
        if self.size > 1:
            dist.barrier()


ALONE = Team()


@contextmanager
def process_group(environment: Mapping[str, str] = os.environ, *, device: str) -> Iterator[tuple[Team, str]]:
    """(the team that torchrun put this process into, this process's device); over NCCL on cards, else over Gloo.

    `device` is that of the first process of each machine: cuda:2 for the first is cuda:3 for the second.
    """
    place = int(environment["LOCAL_RANK"])
    if device.startswith("cuda"):
        first = int(device.split(":")[1]) if ":" in device else 0
        device = f"cuda:{first + place}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
