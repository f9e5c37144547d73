"""INT8 by static quantisation: weights and activations as 8-bit integers, with ranges measured on training images.

onnxruntime's QDQ format: the graph stays a float graph with pairs of QuantizeLinear and DequantizeLinear, which the
runtime fuses into integer kernels where it has them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parapet.deployment.export import INPUT, METADATA, quiet, read_metadata
from parapet.disk.files import replacing

_CALIBRATION_BATCH = 64


def quantize(path: Path, out: Path, images: np.ndarray) -> dict[str, Any]:
    """Write the INT8 version of the graph at `path` to `out`, calibrated on `images`; returns the settings as a dict.

    images: float32 (N, C, H, W) in [0, 1], of the training split: no range may be chosen on images of an evaluation.
    Activations are UINT8 with one scale per tensor, weights INT8 with one per channel; where the processor has no
    VNNI, weights have 7 bits, because the older instructions overflow. The metadata are those of the graph, with
    `quantization` and `derived_from`, the id of the graph. The same graph and images give the same bytes.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reduced = not has_vnni()
    done = {"format": "QDQ", "activations": "UINT8, per tensor", "weights": f"INT8{' (7 bits)' if reduced else ''}, "
            "per channel", "calibration": f"minimum and maximum over {len(images)} training images"}
    metadata = read_metadata(path)
    with tempfile.TemporaryDirectory() as folder, quiet("root"):  # it advises what was just done
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(quantized), _Calibration(images), quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
                        reduce_range=reduced, calibrate_method=CalibrationMethod.MinMax)
        model = onnx.load(quantized)
    entry = {**metadata, "derived_from": metadata.get("id"), "quantization": done}
    onnx.helper.set_model_props(model, {METADATA: json.dumps(entry)})
    with replacing(out) as partial:
        onnx.save_model(model, partial, save_as_external_data=False)
    return {**done, "calibration_images": len(images)}


def has_vnni() -> bool:
    """Whether the processor multiplies 8-bit integers without intermediate overflow; True where it is unknown."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return "avx512_vnni" in flags or "avx_vnni" in flags or "flags" not in flags


class _Calibration:
    """Batches of images in the form of onnxruntime's CalibrationDataReader."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            [images[start:start + _CALIBRATION_BATCH] for start in range(0, len(images), _CALIBRATION_BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch, dtype=np.float32)}

    def set_range(self, start_index: int, end_index: int) -> None:
        """Does nothing: only calibrators that read parts of the data need it."""
