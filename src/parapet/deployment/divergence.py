"""Names the first layer whose output in an exported graph differs from that of its torch network.

torch.onnx.verification (torch 2.15) does not replace this module: it names values, not layers, and it needs the
ExportedProgram, so that the network has to be exported again, by the torch version that wrote the file, for the names
of values to be equal. It also builds a session of onnxruntime for each value. Tried on a network of two stages with
changed weights in `stage1.0.0`: it names the values `mul_8` and `conv2d_1` after 27 s, this module the layer in 0.1 s.
"""

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

# The entry of each node in which torch.onnx stores the names of its modules, the outermost first.
_SCOPES = "pkg.torch.onnx.name_scopes"


def divergent_layer(network: Network, path: Path, images: Tensor, *, tolerance: float) -> tuple[str, float] | None:
    """The first layer from which the graph at `path` and `network` differ, with the largest difference there.

    images: float (N, C, H, W) in [0, 1], N >= 2. A layer differs where the outputs of an element differ by more than
    `tolerance` times the largest absolute output of the layer, but at least `tolerance`. A difference that a later
    layer removes does not count: the exporter folds batch norms into the convolutions before them. None where no named
    layer differs.
    """
    expected = _layers(network, images)
    outputs = _last_outputs(path)
    named = [name for name in expected if name in outputs]
    found = dict(zip(named, _run(path, [outputs[name] for name in named], images)))
    first = None
    for name in named:
        if found[name].shape != expected[name].shape:
            continue
        difference = float(np.abs(found[name] - expected[name]).max())
        if difference <= tolerance * max(1.0, float(np.abs(expected[name]).max())):
            first = None
        elif first is None:
            first = name, difference
    return first


def _layers(network: Network, images: Tensor) -> dict[str, np.ndarray]:
    """The output of every module, in the order of execution; the last output of a module that is called repeatedly."""
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
    """The name of the output of each module's last node in the graph, by the module's name."""
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
    # Without fusion: fused nodes have no intermediate outputs.
    running = session(model.SerializeToString(), fused=False)
    values: list[np.ndarray] = running.run(
        outputs, {INPUT: np.ascontiguousarray(images.cpu().numpy(), dtype=np.float32)})
    return values
