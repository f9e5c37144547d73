"""Runs an exported graph in onnxruntime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from parapet.deployment.export import INPUT
from parapet.errors import InputError, is_out_of_memory
from parapet.quoting import words

# More memory than any machine has: a graph that requests it is damaged.
_MOST_BYTES = 2**44


def session(graph: Path | bytes, *, threads: int = 1, fused: bool = True) -> Any:
    """An onnxruntime session on the CPU with `threads` intra-op threads, one operator at a time.

    The number is given because onnxruntime by default starts one thread for each core of the machine, whatever the
    quota of this process. `graph` is a file or its content; without `fused` every node keeps its own outputs.
    Raises InputError where the graph cannot be loaded.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # users have not agreed to report what they run
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(graph) if isinstance(graph, Path) else graph, options,
                                            providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        if _lacks_memory(error):
            raise
        name = graph if isinstance(graph, Path) else "the graph"
        raise InputError(f"{name} cannot be loaded by onnxruntime ({words(error)}); export the model again.") from None


def predict(running: Any, images: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """Logits (N, classes) of float32 images (N, C, H, W) in [0, 1], in batches."""
    return np.concatenate([_answers(running, images[start:start + batch_size])
                           for start in range(0, len(images), batch_size)])


def _answers(running: Any, images: np.ndarray) -> np.ndarray:
    try:
        found = running.run(None, {INPUT: images})[0]
    except Exception as error:  # onnxruntime's exceptions have no common base class
        if _lacks_memory(error):
            raise
        raise InputError(f"the graph cannot be run on images of shape {images.shape} ({words(error)}); export the "
                         "model again.") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) != len(images):
        raise InputError(f"the graph makes {str(getattr(found, 'shape', type(found).__name__))} of {len(images)} "
                         "images, and has to make logits of shape (N, classes); export the model again.")
    return found


def _lacks_memory(error: Exception) -> bool:
    """Whether the machine has too little memory for an undamaged graph."""
    requested = re.search(r"requested buffer of size (\d+)", str(error))
    return is_out_of_memory(error) and (requested is None or int(requested[1]) <= _MOST_BYTES)
