"""An exported graph as the attacks see a model that they have gradients of: its answers, and its network's slopes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from parapet.deployment.graph_model import GraphModel
from parapet.files import file_digest


class ShippedGraph(nn.Module):
    """The ONNX graph at `path` on the way forward, and on the way back `network`, of which it was exported.

    Every image is judged by the graph's own logits; the gradients only say where to look (BPDA, Athalye, Carlini,
    Wagner 2018). Layers of the network that declare `attacked_through` can be wrapped as ever: what is put in their
    place changes the gradients alone. onnxruntime runs on the CPU with `threads` threads, `network` where it is.
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
        """The graph by its SHA-256: two graphs of the same network are two models."""
        return self._digest
