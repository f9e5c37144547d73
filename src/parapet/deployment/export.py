"""Torch to one ONNX file with a named dynamic batch."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from parapet.files import replacing
from parapet.models.network import Network

INPUT, OUTPUT, BATCH = "images", "logits", "batch"


def export(network: Network, path: Path, *, opset: int, metadata: dict[str, Any] | None = None) -> None:
    """Write `network` as a single-file ONNX graph: images (batch, C, H, W) in [0, 1] to logits (batch, classes).

    `metadata` is kept in the file as JSON under the key `parapet`. Raises RuntimeError where the graph has no
    symbolic batch.
    """
    import onnx  # several seconds of import that training and attacks do not pay

    network = network.cpu().eval().to(memory_format=torch.contiguous_format)
    # Two images, not one: a batch of 1 is specialised to a constant by torch.export.
    example = torch.full((2, *network.image_shape), 0.5)
    # Without gradients: surrogates for them (BPDA, the median's) are for attacks and have no place in the graph.
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},), verbose=False)
    model = program.model_proto
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_param != BATCH:
        raise RuntimeError("the exported graph has a fixed batch size; the network's forward pass depends on it")
    entry = model.metadata_props.add()
    entry.key, entry.value = "parapet", json.dumps(metadata or {})
    with replacing(path) as partial:
        onnx.save_model(model, partial, save_as_external_data=False)


def read_metadata(path: Path) -> dict[str, Any]:
    """The `metadata` that `export` put into an ONNX file; empty where there is none."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    found = [entry.value for entry in model.metadata_props if entry.key == "parapet"]
    return json.loads(found[0]) if found else {}


@contextlib.contextmanager
def _quiet() -> Any:
    """torch.onnx and onnxscript log progress of their own; Parapet has one progress line."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
