"""An exported graph as a model for attacks: images in, logits out, no gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parapet.deployment.runtime import predict, session


class GraphModel:
    """The ONNX graph at `path`, for attacks that need only logits."""

    def __init__(self, path: Path, *, threads: int = 1, batch_size: int = 512) -> None:
        self._running, self._batch_size = session(path, threads=threads), batch_size

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of float images (N, C, H, W) in [0, 1], on the images' device."""
        if len(images) == 0:
            return images.new_zeros((0, self._running.get_outputs()[0].shape[1]))
        array = np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float32)
        return torch.from_numpy(predict(self._running, array, self._batch_size)).to(images.device)
