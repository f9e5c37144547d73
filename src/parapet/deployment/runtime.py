"""Running an exported graph in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parapet.deployment.export import INPUT
from parapet.errors import InputError


def session(path: Path, *, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU with `threads` intra-op threads, one operator at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no base
        raise InputError(f"{path} cannot be loaded by onnxruntime ({error}); export the model again.") from None


def predict(running: Any, images: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """Logits (N, classes) of float32 images (N, C, H, W) in [0, 1], in batches."""
    batches = [running.run(None, {INPUT: images[start:start + batch_size]})[0]
               for start in range(0, len(images), batch_size)]
    return np.concatenate(batches)
