"""Processes that train one network together, each with its own GPU and a share of every batch.

Data parallelism with one exchange a step (Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data
Parallel Training"): gradients and the statistics of batch norm are averaged, so that weights stay equal everywhere.
DistributedDataParallel works in the network's forward pass, which attacks call many times a step; here the exchange
happens once, after the last backward pass.
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

# The longest wait for another process: the validation of an epoch, for which the others wait, takes less.
_PATIENCE = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class Team:
    """This process's place, `rank`, among `size` processes that train together; by default the only one."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def check(self, batch_size: int) -> None:
        """InputError for a batch that cannot be shared equally, which the average of the gradients requires."""
        if batch_size % self.size:
            raise InputError(f"training.batch_size is {batch_size}, which {self.size} processes cannot share equally; "
                             f"make it a multiple of training.gpus, {self.size}.")

    def share(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """This process's N / size rows of each of `tensors` (N, ...), which are the same in every process."""
        if self.size == 1:
            return tensors
        rows = len(tensors[0]) // self.size
        return tuple(tensor[self.rank * rows:(self.rank + 1) * rows] for tensor in tensors)

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each of `tensors` by its mean over all processes, in place, with one exchange for all of them."""
        if self.size == 1:
            return
        tensors = list(tensors)
        together = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(together)
        for tensor, mean in zip(tensors, (together / self.size).split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view(tensor.shape))

    def average_step(self, parameters: Iterable[Tensor], network: nn.Module) -> None:
        """Average the gradients of a backward pass, and the statistics of `network`'s batch norms."""
        if self.size == 1:
            return
        self.average([*(each.grad for each in parameters if each.grad is not None),
                      *(buffer for buffer in network.buffers() if buffer.is_floating_point())])

    def from_main(self, compute: Callable[[], Any]) -> Any:
        """The result of `compute()` in the main process, in all of them; the others wait.

        GPUs may differ in a last digit, and decisions must not differ.
        """
        if self.size == 1:
            return compute()
        values = [compute() if self.is_main else None]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """The `value` of each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process has come this far, so that none works while the main one waits for its turn."""
        if self.size > 1:
            dist.barrier()


ALONE = Team()


@contextmanager
def process_group(environment: Mapping[str, str] = os.environ, *, device: str) -> Iterator[tuple[Team, str]]:
    """Join the process group that torchrun's environment describes: (team, this process's device).

    Over NCCL on GPUs, else over Gloo. `device` is that of the first process of each machine: where it is cuda:2, the
    second process has cuda:3.
    """
    if device.startswith("cuda"):
        first = int(device.split(":")[1]) if ":" in device else 0
        device = f"cuda:{first + int(environment['LOCAL_RANK'])}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
