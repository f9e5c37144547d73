"""The images of one split, all of them on the device, so that training needs no data loader and no workers."""

from __future__ import annotations

from collections.abc import Iterator

import torch


class Images:
    """The images of one split, uint8 on their device; batches come out as floats in [0, 1].

    images: uint8 (N, C, H, W). labels: int64 (N,). index: int64 (N,), the position in the source.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, index: torch.Tensor, levels: int) -> None:
        self.images, self.labels, self.index = images, labels, index
        # A tensor on the device: CUDA multiplies by the reciprocal of a Python number, which is not exact.
        self._levels = torch.tensor(float(levels), device=images.device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def batch(self, indices: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 (n, C, H, W) in [0, 1], exactly pixel / levels, and labels int64 (n,), at `indices`."""
        return self.images[indices].float() / self._levels, self.labels[indices]

    def all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Every image and label, as `batch` gives them."""
        return self.batch(slice(None))

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images in order; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))

    def shuffled(self, batch_size: int, generator: torch.Generator | None = None
                 ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch in random order, in full batches; an incomplete last batch is dropped.

        With fewer images than `batch_size` there is one smaller batch of all images. The order depends on the
        generator only, so a CPU generator gives the same order on every device.
        """
        where = "cpu" if generator is None else generator.device
        order = torch.randperm(len(self), generator=generator, device=where).to(self.labels.device)
        for start in range(0, max(len(self) - batch_size, 0) + 1, batch_size):
            yield self.batch(order[start:start + batch_size])
