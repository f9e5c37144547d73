"""What a benchmark ran on: the machine in words, and the most that it can compute."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from benchmarks.attacks.replay import timed


def hardware(device: str) -> str:
    """The machine in words: processor or card, threads, torch."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")), platform.processor())
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def peak(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of the best of some products of large square matrices of `dtype`."""
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.rand(size, size, device=device, dtype=dtype)
    torch.mm(matrix, matrix)
    return 2 * size**3 / min(timed(torch.mm, matrix, matrix, device=device)[0] for _ in range(5))
