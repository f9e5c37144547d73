"""Is the graph that ships the network that was measured? Logits and labels, at several batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parapet.deployment.runtime import predict, session
from parapet.errors import WorkError
from parapet.models.network import Network

BATCH_SIZES = (1, 7)


class ParityError(WorkError):
    """The ONNX graph does not compute what the torch network computes."""


def check_parity(network: Network, path: Path, images: Tensor, *, tolerance: float) -> dict[str, Any]:
    """Compare torch and onnxruntime on float images (N, C, H, W) in [0, 1], N >= 1, at batch sizes 1, 7 and N.

    Returns {largest_difference, label_agreement, batch_sizes, images}. Raises ParityError where logits differ by
    more than `tolerance` times the largest logit (but at least 1), or a label does although its logits are further
    apart than that.
    """
    running = session(path)
    with torch.no_grad():
        expected = network.cpu().eval()(images.cpu()).numpy()
    array = np.ascontiguousarray(images.cpu().numpy(), dtype=np.float32)
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    sizes = sorted({min(size, len(array)) for size in (*BATCH_SIZES, len(array))})
    largest, agreement = 0.0, 1.0
    for size in sizes:
        # A few batches of each size are enough to see a frozen batch; the largest size covers every image.
        part = array[:max(size, 8)]
        found = predict(running, part, size)
        reference = expected[:len(part)]
        largest = max(largest, float(np.abs(found - reference).max()))
        same = found.argmax(1) == reference.argmax(1)
        tied = _margin(reference) <= allowed
        agreement = min(agreement, float(np.mean(same | tied)))
    if not largest <= allowed or agreement < 1:
        raise ParityError(f"{path.name} differs from the torch network: logits by up to {largest:.3g} (allowed "
                          f"{allowed:.3g}), labels agree on {agreement:.2%} of {len(array)} images; "
                          "raise export.tolerance only if that difference is harmless to you.")
    return {"largest_difference": largest, "label_agreement": agreement, "batch_sizes": sizes, "images": len(array)}


def _margin(logits: np.ndarray) -> np.ndarray:
    top = np.partition(logits, -2, axis=1)
    return top[:, -1] - top[:, -2]
