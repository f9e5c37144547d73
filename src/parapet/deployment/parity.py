"""Checks that the exported graph computes what the torch network computes: logits, labels and robust accuracy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parapet.deployment.divergence import divergent_layer
from parapet.deployment.runtime import predict, session
from parapet.errors import WorkError, is_of_the_machine
from parapet.models.network import Network

BATCH_SIZES = (1, 7)
# The least share of images with the same label, and the most that robust accuracy may differ.
LABEL_AGREEMENT, ROBUST_DIFFERENCE = 0.999, 0.001
_LAYER_IMAGES = 16


class ParityError(WorkError):
    """The ONNX graph does not compute what the torch network computes."""


@dataclass(frozen=True)
class Replay:
    """The outputs of torch and of the graph on the same images, compared.

    largest_difference: of logits, for the image on which it is largest in relation to allowed_difference, the largest
    difference allowed on that image. accuracy, graph_accuracy: shares of correct labels, of torch and of onnxruntime.

    ties: number of images whose two highest logits are closer than the tolerance; there both labels count as right.
    label_agreement: share of images with the same label, ties counted as agreeing.
    untied_difference: difference of the accuracies without ties, as a share of all images.
    """

    images: int
    largest_difference: float
    allowed_difference: float
    label_agreement: float
    accuracy: float
    graph_accuracy: float
    ties: int
    untied_difference: float

    def why_not(self) -> str | None:
        """The first limit that is exceeded, in words; None where the two agree."""
        if not self.largest_difference <= self.allowed_difference:
            return f"logits differ by up to {self.largest_difference:.3g} (allowed {self.allowed_difference:.3g})"
        if self.label_agreement < LABEL_AGREEMENT:
            return (f"labels agree on {self.label_agreement:.2%} of {self.images} images (at least "
                    f"{LABEL_AGREEMENT:.1%})")
        if self.untied_difference > ROBUST_DIFFERENCE:
            return (f"of {self.images} images torch gets {self.accuracy:.2%} right and the graph "
                    f"{self.graph_accuracy:.2%} (at most {100 * ROBUST_DIFFERENCE:.1f} points apart)")
        return None


def replay(network: Network, running: Any, images: Tensor, labels: Tensor, *, tolerance: float,
           batch_size: int = 512) -> Replay:
    """Compare `network` and the onnxruntime session `running` on `images`, float (N, C, H, W) in [0, 1].

    The logits of an image may differ by `tolerance` times the largest of them, but at least by `tolerance`.
    """
    truth, parts = labels.cpu().numpy(), []
    device = next(network.parameters()).device
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = images[start:start + batch_size]
            parts.append(network.eval()(batch.to(device)).float().cpu().numpy())
    expected = np.concatenate(parts)
    found = predict(running, np.ascontiguousarray(images.cpu().numpy(), dtype=np.float32), batch_size)
    return _compared(expected, found, truth, tolerance)


def check_parity(network: Network, path: Path, images: Tensor, *, tolerance: float, labels: Tensor | None = None,
                 adversarial: tuple[Tensor, Tensor] | None = None) -> dict[str, Any]:
    """Compare torch and onnxruntime on float images (N, C, H, W) in [0, 1], N >= 1, at batch sizes 1, 7 and N.

    `adversarial` is (images, labels) of an evaluation: robust accuracy on them must be the same to within 0.1 points.
    Returns {largest_difference, label_agreement, batch_sizes, images, adversarial}. Raises ParityError, with the first
    layer that differs, where the logits of an image differ by more than `tolerance` times the largest of them (but at
    least `tolerance`), or where the labels of more than one image in a thousand differ, ties not counted.
    """
    running = session(path)
    network = network.cpu().eval()
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    sizes = sorted({min(size, len(images)) for size in (*BATCH_SIZES, len(images))})
    # A few batches of each size show a fixed batch size in the graph; the largest size covers every image.
    found = [replay(network, running, images[:max(size, 8)], labels[:max(size, 8)], tolerance=tolerance,
                    batch_size=size) for size in sizes]
    attacked = None if adversarial is None or len(adversarial[0]) == 0 else replay(
        network, running, *adversarial, tolerance=tolerance)
    for where, result in [*((f"in batches of {size}", each) for size, each in zip(sizes, found)),
                          *([("on adversarial images", attacked)] if attacked else [])]:
        if (reason := result.why_not()) is not None:
            raise ParityError(f"{path.name} differs from the torch network {where}: {reason}; "
                              f"{describe_divergence(network, path, images, tolerance)}; raise export.tolerance "
                              "only if that difference is harmless to you.")
    return {"largest_difference": max(result.largest_difference for result in found),
            "label_agreement": min(result.label_agreement for result in found), "batch_sizes": sizes,
            "images": len(images), "adversarial": attacked and asdict(attacked)}


def tied_images(logits: np.ndarray, tolerance: float) -> np.ndarray:
    """Which images (N,) have two highest logits (N, classes) that are equal to within the tolerance, so that rounding
    decides which of the two is higher. The tolerance of an image is as in `replay`."""
    top = np.partition(logits, -2, axis=1)
    tied: np.ndarray = top[:, -1] - top[:, -2] <= _allowed(logits, tolerance)
    return tied


def describe_divergence(network: Network, path: Path, images: Tensor, tolerance: float) -> str:
    """The first layer that differs, as the end of a sentence."""
    part = images[:_LAYER_IMAGES] if len(images) > 1 else images.repeat(2, 1, 1, 1)
    try:
        found = divergent_layer(network, path, part, tolerance=tolerance)
    except Exception as error:  # a damaged graph may raise anything
        if is_of_the_machine(error):
            raise
        return f"no layer can be named ({type(error).__name__})"
    return "no single layer differs" if found is None else (
        f"they diverge at {found[0]} (by up to {found[1]:.3g})")


def _compared(expected: np.ndarray, found: np.ndarray, truth: np.ndarray, tolerance: float) -> Replay:
    allowed = _allowed(expected, tolerance)
    # A NaN counts as an infinite difference.
    differences = np.nan_to_num(np.abs(found - expected), nan=np.inf).max(1, initial=0.0)
    worst = int((differences / allowed).argmax())
    ours, theirs = expected.argmax(1), found.argmax(1)
    tied = tied_images(expected, tolerance)
    right, graph_right = ours == truth, theirs == truth
    return Replay(len(truth), float(differences[worst]), float(allowed[worst]),
                  float(((ours == theirs) | tied).mean()), float(right.mean()), float(graph_right.mean()),
                  int(tied.sum()), float(abs(right[~tied].sum() - graph_right[~tied].sum()) / len(truth)))


def _allowed(logits: np.ndarray, tolerance: float) -> np.ndarray:
    allowed: np.ndarray = tolerance * np.maximum(1.0, np.abs(logits).max(1, initial=0.0))
    return allowed
