"""Exports a network to one ONNX file with a named dynamic batch."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch

from parapet.disk.files import replacing
from parapet.disk.plain_json import loads
from parapet.errors import InputError
from parapet.models.network import Network
from parapet.quoting import listed, quote, words
from parapet.quoting import name as named

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
# The key of Parapet's own entry in the file's metadata.
METADATA = "parapet"
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


def export(network: Network, path: Path, *, opset: int, metadata: dict[str, Any] | None = None) -> None:
    """Write `network` as a single-file ONNX graph: images (batch, C, H, W) in [0, 1] to logits (batch, classes).

    `metadata` is stored in the file as JSON under the key `parapet`, together with input, output, opset, IR version
    and torch's version. Raises RuntimeError where the graph has no symbolic batch.
    """
    import onnx  # takes seconds, and training and attacks do not need it

    network = network.cpu().eval().to(memory_format=torch.contiguous_format)
    # Two images, not one: torch.export specialises a batch of 1 to a constant.
    example = torch.full((2, *network.image_shape), 0.5)
    # Without gradients: their substitutes (BPDA, the median's) are for attacks and must not be in the graph.
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), quiet(*_CHATTY):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},), verbose=False)
    model = cast(torch.onnx.ONNXProgram, program).model_proto  # with `dynamo` it is never None
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_param != BATCH:
        raise RuntimeError("the exported graph has a fixed batch size; the network's forward pass depends on it")
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps({
        **(metadata or {}), "opset": opset, "ir_version": model.ir_version, "torch": str(torch.__version__),
        "input": {"name": INPUT, "shape": [BATCH, *network.image_shape], "type": "float32", "range": [0.0, 1.0]},
        "output": {"name": OUTPUT, "shape": [BATCH, network.classes], "type": "float32", "meaning": "logits"}})
    with replacing(path) as partial:
        onnx.save_model(model, partial, save_as_external_data=False)


def read_metadata(path: Path) -> dict[str, Any]:
    """The `metadata` that `export` put into an ONNX file; empty where there is none. InputError where it is damaged."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
        found = [entry.value for entry in model.metadata_props if entry.key == METADATA]
        value = loads(found[0]) if found else {}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; export the model again.") from None
    except (DecodeError, ValueError, OSError) as error:
        raise InputError(f"{path} is not an ONNX file, or is damaged ({words(error)}); export the model again."
                         ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged (its entry {METADATA} is not a mapping); export the model again.")
    return value


def check_identity(path: Path, genome: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the ONNX file at `path`, after checking that it was exported from the network of `genome`.

    Raises InputError where the file is damaged, was not exported by Parapet, or has another genome.
    """
    metadata = read_metadata(path)
    if "genome" not in metadata:
        raise InputError(f"{path} does not say which network it is: it was not exported by Parapet; export the model "
                         "again.")
    if not isinstance(metadata["genome"], dict):
        raise InputError(f"{path} is damaged (its genome is {quote(metadata['genome'])}); export the model again.")
    if metadata["genome"] != genome:
        differing = sorted(name for name in {*genome, *metadata["genome"]}
                           if genome.get(name) != metadata["genome"].get(name))
        raise InputError(f"{path} is of another network ({named(metadata.get('id', 'without an id'))}), which differs "
                         f"in {listed(differing)}; export the model again.")
    return metadata


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Only errors of the loggers `names` are shown inside the block: Parapet has its own progress line."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
