"""An exported graph as a model for gradient attacks: logits of the graph, gradients of its torch network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from parapet.deployment.graph_model import GraphModel
from parapet.disk.files import file_digest


class ShippedGraph(nn.Module):
    """The ONNX graph at `path` in the forward pass, and in the backward pass `network`, from which it was exported.

    Every image is judged by the logits of the graph; the gradients only give the attack its direction (BPDA, Athalye,
    Carlini, Wagner 2018). Layers of the network that declare `attacked_through` can be wrapped as usual: their
    replacement changes only the gradients. onnxruntime runs on the CPU with `threads` threads, `network` on its device.
    """

    def __init__(self, path: Path, network: nn.Module, *, threads: int = 1) -> None:
        super().__init__()
        self.network = network
        self._graph, self._digest = GraphModel(path, threads=threads), file_digest(path)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of float images (N, C, H, W) in [0, 1], on the images' device."""
        answer: Tensor = self._graph(images)
        if not (torch.is_grad_enabled() and images.requires_grad):
            return answer
        logits: Tensor = self.network(images)
        return answer + (logits - logits.detach())

    def extra_repr(self) -> str:
        """The SHA-256 of the graph: two graphs of the same network are two models."""
        return self._digest
