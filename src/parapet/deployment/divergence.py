"""Where an exported graph and the network that it came from part, layer by layer."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parapet.deployment.export import INPUT
from parapet.deployment.runtime import session
from parapet.models.network import Network

# What torch.onnx writes beside each node: the modules, from the outermost in, that it came from.
_SCOPES = "pkg.torch.onnx.name_scopes"


def parting_layer(network: Network, path: Path, images: Tensor, *, tolerance: float) -> tuple[str, float] | None:
    """The first layer from which on the graph at `path` computes something else than `network`, and by how much.

    images: float (N, C, H, W) in [0, 1], N >= 2. A layer differs where an element does by more than `tolerance` times
    the layer's largest one, but at least 1. Layers whose difference a later one takes back are passed over: the
    exporter folds batch norms into the convolutions before them. None where no named layer differs for good.
    """
    expected = _layers(network, images)
    outputs = _last_outputs(path)
    named = [name for name in expected if name in outputs]
    found = dict(zip(named, _run(path, [outputs[name] for name in named], images)))
    parted = None
    for name in named:
        if found[name].shape != expected[name].shape:
            continue
        difference = float(np.abs(found[name] - expected[name]).max())
        if difference <= tolerance * max(1.0, float(np.abs(expected[name]).max())):
            parted = None
        elif parted is None:
            parted = name, difference
    return parted


def _layers(network: Network, images: Tensor) -> dict[str, np.ndarray]:
    """Every module's output, in the order in which they are done; of one that is called again, the last."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.pop(name, None)
                seen[name] = output.numpy().copy()
        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            network.cpu().eval()(images.cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _last_outputs(path: Path) -> dict[str, str]:
    """The output of each module's last node in the graph, by the module's name."""
    import onnx

    found: dict[str, str] = {}
    for node in onnx.load(path).graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        for scope in ast.literal_eval(scopes)[:-1]:  # the last one names the operator
            if scope:
                found[scope] = node.output[0]
    return found


def _run(path: Path, outputs: list[str], images: Tensor) -> list[np.ndarray]:
    import onnx

    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs) if name not in known)
    # Fused nodes have no outputs in between.
    running = session(model.SerializeToString(), fused=False)
    values: list[np.ndarray] = running.run(
        outputs, {INPUT: np.ascontiguousarray(images.cpu().numpy(), dtype=np.float32)})
    return values
