"""Every shape that the space of networks hands to torch's native code, forward and backward, in a process of its own.

Run as `python -m tests.models.native_shapes BACKBONES THREADS SHAPES WIDTHS...`: backbones with commas between them,
SHAPES all or smallest. It writes the name of each network before it runs it, so that the last line names the one in
which the process died. `OVERRUN` in place of backbones writes beyond a buffer: the process has to die of it, or its
allocator checks nothing.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Iterator

import torch
from torch.nn.functional import cross_entropy

from parapet.catalogue.networks import BACKBONES
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.network import build
from tests.models.spaces import KNOWN, smallest_images

OVERRUN = "OVERRUN"
# MNIST and CIFAR-10, beside images of the digits' size; and an odd number of images, and a single one.
SHAPES = ((1, 28, 28), (3, 32, 32))
BATCHES = (9, 1)
LAYOUTS = (torch.channels_last, torch.contiguous_format)
# The allocator's checks see an overrun when the block is freed; the second round frees what the first one kept.
_ROUNDS = 2


def bare(backbone: str, width: int) -> Iterator[Genome]:
    """Genomes with every layer of `backbone` itself at `width`: blocks of stride 1 and 2, each activation."""
    yield from (Genome(backbone=backbone, width=width, depth=2, activation=word) for word in KNOWN["activation"])


def defended(backbone: str, width: int) -> Iterator[Genome]:
    """Genomes with each denoiser after each stage between them, and each input filter."""
    denoised = [(word, stage) for stage in range(1, BACKBONES[backbone].stages + 1) for word in KNOWN["denoiser"]]
    for (denoiser, stage), input_filter in zip(denoised, itertools.cycle(KNOWN["input_filter"])):
        yield Genome(backbone=backbone, width=width, depth=1, denoiser=denoiser, denoiser_stage=stage,
                     input_filter=input_filter)


def cases(backbone: str, widths: list[int], *, thorough: bool) -> Iterator[tuple[Genome, tuple[int, int, int]]]:
    """(genome, image shape): all networks on the smallest images; the bare ones on the larger `SHAPES` too, if
    `thorough`."""
    for width in widths:
        small = smallest_images(backbone)
        yield from ((genome, small) for genome in (*bare(backbone, width), *defended(backbone, width)))
        if thorough:
            yield from itertools.product(bare(backbone, width), SHAPES)


def exercise(genome: Genome, shape: tuple[int, int, int], memory_format: torch.memory_format) -> None:
    """Training, and attacking (evaluation, gradients of the images alone), in both sizes of batch."""
    generator = torch.Generator().manual_seed(0)
    network = build(genome, shape, 10, generator=generator).to(memory_format=memory_format)
    for batch in BATCHES:
        images = torch.rand(batch, *shape, generator=generator).contiguous(memory_format=memory_format)
        labels = torch.arange(batch) % 10
        for _ in range(_ROUNDS):
            # Batch norm cannot be trained on one image of one pixel a channel.
            if batch > 1:
                cross_entropy(network.train()(images.requires_grad_()), labels).backward()
            network.eval()
            loss = cross_entropy(network(images.requires_grad_()), labels)
            torch.autograd.grad(loss, images)
            with torch.inference_mode():
                network(images)


def main(backbones: str, threads: int, shapes: str, widths: list[int]) -> None:
    """Exercise the networks of `backbones` at `widths` on `threads` threads, on all images or on the smallest."""
    torch.set_num_threads(threads)
    if backbones == OVERRUN:
        buffer = torch.empty(1000)
        ctypes.memset(buffer.data_ptr() + 4 * 1000, 255, 4096)
        del buffer
        return
    for backbone in backbones.split(","):
        for (genome, shape), layout in itertools.product(cases(backbone, widths, thorough=shapes == "all"), LAYOUTS):
            print(f"{genome} on {shape}, {layout}", flush=True)
            try:
                exercise(genome, shape, layout)
            except InputError as error:  # too small an image, or too narrow a network
                print(f"  no such network: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], [int(width) for width in sys.argv[4:]])
