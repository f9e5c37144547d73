"""Translates the setting `device` of params.yaml into one device for each worker."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from parapet.cores import cpu_count
from parapet.errors import InputError
from parapet.quoting import quote

# Files of the NVIDIA driver on Linux, and on Linux inside Windows (WSL).
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/dxg")


def resolve(device: str, *, workers: int | None, threads: int, per_card: Callable[[str], int] = lambda card: 1,
            together: int = 1) -> list[str]:
    """One device for each worker. `device` is auto, cpu, cuda or cuda:N; `threads` is the number of threads per worker.

    `workers` is the number of workers. The default is cores // (threads * together) on the CPU, and on CUDA
    `per_card(first GPU)` per GPU; `per_card` is called only in this case. `together` GPUs (or CPU processes) train one
    candidate; a worker then uses that many GPUs, and its device is the first of them. Raises InputError for an unknown
    device and for more GPUs than the machine has.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise InputError(f"device is {quote(device)}; allowed: auto, cpu, cuda, cuda:0, cuda:1, ...")
    cards = 0 if device == "cpu" else _cuda_devices()
    if device == "cpu" or (device == "auto" and cards == 0):
        return ["cpu"] * (workers or max(1, cpu_count() // (threads * together)))
    if cards == 0:
        raise InputError(f"device is {quote(device)}, but this machine has no CUDA device that torch can use; "
                         "set device to auto or cpu.")
    if ":" in device and int(device.split(":")[1]) >= cards:
        raise InputError(f"device is {quote(device)}, but this machine has {cards} CUDA devices (cuda:0 to "
                         f"cuda:{cards - 1}); choose one of them, or auto.")
    first = int(device.split(":")[1]) if ":" in device else 0
    if first + together > cards:
        raise InputError(f"training.gpus is {together}, but from cuda:{first} on this machine has "
                         f"{cards - first} of its {cards} CUDA devices; set training.gpus to at most that.")
    chosen = [device] if ":" in device else [f"cuda:{place}" for place in range(0, cards - together + 1, together)]
    if together > 1:
        return [chosen[place % len(chosen)] for place in range(min(workers or len(chosen), len(chosen)))]
    return [chosen[place % len(chosen)] for place in range(workers or len(chosen) * per_card(chosen[0]))]


def _cuda_devices() -> int:
    # Without the driver torch cannot find a device, and importing torch takes seconds and a third of a gigabyte.
    if not any(Path(path).exists() for path in _DRIVER_FILES):
        return 0
    import torch

    return torch.cuda.device_count()
