"""INT8 by static quantisation: weights and activations as 8-bit integers, with ranges seen on training images.

onnxruntime's QDQ format: the graph stays a float graph with pairs of QuantizeLinear and DequantizeLinear, which the
runtime fuses into integer kernels where it has them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parapet.deployment.export import INPUT, METADATA, read_metadata
from parapet.files import replacing

_CALIBRATION_BATCH = 64


def quantize(path: Path, out: Path, images: np.ndarray) -> dict[str, Any]:
    """Write the INT8 version of the graph at `path` to `out`, calibrated on `images`; what was done, as a dict.

    images: float32 (N, C, H, W) in [0, 1], of the training split: ranges must not be chosen on images that judge.
    Activations are UINT8 with one scale a tensor, weights INT8 with one a channel; where the processor has no VNNI,
    weights have 7 bits, since the older instructions overflow. The metadata are the graph's own, with `quantization`
    and `derived_from`, its id. The same graph and images give the same bytes.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reduced = not has_vnni()
    done = {"format": "QDQ", "activations": "UINT8, per tensor", "weights": f"INT8{' (7 bits)' if reduced else ''}, "
            "per channel", "calibration": f"minimum and maximum over {len(images)} training images"}
    metadata = read_metadata(path)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(quantized), _Calibration(images), quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
                        reduce_range=reduced, calibrate_method=CalibrationMethod.MinMax)
        model = onnx.load(quantized)
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key = METADATA
    entry.value = json.dumps({**metadata, "derived_from": metadata.get("id"), "quantization": done})
    with replacing(out) as partial:
        onnx.save_model(model, partial, save_as_external_data=False)
    return {**done, "calibration_images": len(images)}


def has_vnni() -> bool:
    """Whether the processor multiplies 8-bit integers without overflowing in between; True where that is not known."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return "avx512_vnni" in flags or "avx_vnni" in flags or "flags" not in flags


class _Calibration:
    """Batches of images, as onnxruntime's calibrator asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            [images[start:start + _CALIBRATION_BATCH] for start in range(0, len(images), _CALIBRATION_BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch, dtype=np.float32)}

    def set_range(self, start_index: int, end_index: int) -> None:
        """Only for calibrators that read parts of the data; the one in use reads all of it."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime advises, on the root logger, to do what has just been done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
