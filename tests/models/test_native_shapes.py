"""Native code (oneDNN, torch's own kernels) stays inside its buffers for every shape that our networks have.

Each case is a process under glibc's checks of the heap, on the instruction set of another processor: what is written
beyond a buffer there may be a crash, a wrong weight, or nothing, as chance has it.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys

import pytest
import torch

from parapet.catalogue.networks import BACKBONES
from parapet.models.backbones.blocks import convolution
from tests.models.native_shapes import OVERRUN

CHECKS = "libc_malloc_debug.so.0"
INSTRUCTION_SETS = ("SSE41", "AVX2", "AVX512_CORE")
WIDTHS = (*range(1, 18), 24, 32)


@pytest.fixture(scope="module", autouse=True)
def _needs_glibc() -> None:
    try:
        ctypes.CDLL(CHECKS)
    except OSError:
        pytest.skip(f"{CHECKS} is not here; glibc brings it from version 2.34 on")


def _run(backbone: str, widths: tuple[int, ...], instruction_set: str, threads: int,
         shapes: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "LD_PRELOAD": CHECKS, "MALLOC_CHECK_": "3", "ONEDNN_MAX_CPU_ISA": instruction_set}
    return subprocess.run([sys.executable, "-m", "tests.models.native_shapes", backbone, str(threads),
                           shapes, *map(str, widths)], env=environment, capture_output=True, text=True, check=False)


def _stays_inside(backbone: str, widths: tuple[int, ...], instruction_set: str, threads: int, shapes: str) -> None:
    ended = _run(backbone, widths, instruction_set, threads, shapes)
    last = ended.stdout.splitlines()[-1:]
    assert ended.returncode == 0, f"exit code {ended.returncode} in {last}: {ended.stderr[-2000:]}"
    refused = ended.stdout.count("\n  no such network")
    assert len(ended.stdout.splitlines()) - 2 * refused >= 4 * len(widths), "hardly a network was run"


def test_a_write_beyond_a_buffer_is_seen() -> None:
    ended = _run(OVERRUN, (), "AVX2", 1, "smallest")
    assert ended.returncode < 0, "the heap is not checked, so the other tests of this file prove nothing"


def test_a_sample_of_the_space_stays_inside_its_buffers() -> None:
    _stays_inside(",".join(BACKBONES), (4,), "AVX2", threads=1, shapes="smallest")


@pytest.mark.slow
@pytest.mark.parametrize(("instruction_set", "threads"), [*((name, 1) for name in INSTRUCTION_SETS), ("AVX2", 2)])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_whole_space_stays_inside_its_buffers(backbone: str, instruction_set: str, threads: int) -> None:
    # SmallCNN has one width.
    _stays_inside(backbone, (1,) if backbone == "small_cnn" else WIDTHS, instruction_set, threads, "all")


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_1x1_convolution_of_stride_2_is_the_same_function_as_torch_s(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = convolution(12, 8, size=1, stride=2).to(memory_format=layout)
    images = torch.randn(4, 12, 7, 6, generator=generator).contiguous(memory_format=layout).requires_grad_()
    ours = layer(images)
    theirs = torch.nn.functional.conv2d(images, layer.weight, stride=2)
    assert torch.allclose(ours, theirs, atol=1e-6)
    weights = torch.randn(ours.shape, generator=generator)
    for mine, other in zip(torch.autograd.grad((ours * weights).sum(), (images, layer.weight)),
                           torch.autograd.grad((theirs * weights).sum(), (images, layer.weight))):
        assert torch.allclose(mine, other, atol=1e-5)
