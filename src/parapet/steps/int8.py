"""Makes the INT8 variant of a member of the front, attacks it without gradients, and measures its latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from parapet.attacks import square
from parapet.config import Params
from parapet.cores import Cores, FreeCores
from parapet.data.dataset import Dataset
from parapet.deployment import GraphModel, footprint, measure_latency, quantize
from parapet.disk.files import file_digest
from parapet.intervals import wilson
from parapet.store import results

SUFFIX = "-int8"
NOTE = ("INT8: its robust accuracy is an upper bound. A quantised graph has no gradients to attack along, so only the "
        "float network's adversarial images and attacks without gradients were tried, and a stronger attack may find "
        "more.")
_VALIDATED, _FEW = 256, 200


def run(params: Params, candidate: Path, data: Dataset, out: Path, images: Tensor, labels: Tensor, adversarial: Tensor,
        *, cores: Cores | FreeCores, progress: results.Report = results.ignore) -> dict[str, Any]:
    """Quantise the graph in folder `candidate` into `out`/<id>-int8.onnx and measure it.

    images: (N, C, H, W), clean test images; adversarial: the same after all attacks on the float network; labels: (N,).
    Returns the entry `int8` of the candidate's evaluation.
    """
    config, threat = params.full_evaluation, params.threat
    trained = results.trained(candidate, registered=True)
    path = out / f"{trained['id']}{SUFFIX}.onnx"
    progress("int8", 0.0)
    calibration, _ = data.split("train", limit=config.calibration_images).all()
    with cores.shared():
        done = quantize(candidate / results.ONNX, path, calibration.numpy())
    model, count = GraphModel(path), min(config.int8_images, len(images))
    record = _attacked(model, images[:count].cpu(), labels[:count].cpu(), adversarial[:count].cpu(), params, cores)
    validation = _validated(model, candidate, data, params, cores)
    progress("int8 latency", 0.9)
    shape, export = data.image_shape, params.export
    with cores.exclusive():
        latency = measure_latency(path, shape, batch=export.latency_batch, threads=export.latency_threads,
                                  warmup=export.latency_warmup, runs=export.latency_runs,
                                  seconds=export.latency_seconds, throughput_batch=export.throughput_batch)
    return {"id": path.stem, "file": path.name, "sha256": file_digest(path), "quantization": done, "note": NOTE,
            "threat": str(threat), "test": record, "validation": validation, "latency_ms": latency,
            "footprint": footprint(path, shape, batch=export.latency_batch)}


def _attacked(model: GraphModel, images: Tensor, labels: Tensor, adversarial: Tensor, params: Params,
              cores: Cores | FreeCores) -> dict[str, Any]:
    """Accuracies on test images: clean, on the float network's adversarial images, and under Square."""
    with cores.shared():
        clean = (model(images).argmax(1) == labels).numpy()
        survived = {"transfer": (model(adversarial).argmax(1) == labels).numpy()}
    if params.full_evaluation.int8_queries:
        survived["square"] = _under_square(model, images, labels, clean, params, params.full_evaluation.int8_queries,
                                           cores)
    return _block(clean, survived)


def _validated(model: GraphModel, candidate: Path, data: Dataset, params: Params,
               cores: Cores | FreeCores) -> dict[str, Any]:
    """Accuracies on validation images: clean, and on the adversarial images that the search stored; where there are
    none, under Square with few queries."""
    stored: dict[str, Tensor] = {"labels": torch.zeros(_VALIDATED)}
    if (candidate / results.ADVERSARIAL).exists():
        # A model from the registry has no stored adversarial images.
        results.read(candidate / results.ATTACK_EVALUATION, "run `parapet search` again")
        stored = load_file(candidate / results.ADVERSARIAL)
    images, labels = data.split("validation", limit=min(len(stored["labels"]), data.images["validation"])).all()
    with cores.shared():
        clean = (model(images).argmax(1) == labels).numpy()
        if torch.equal(labels, stored["labels"]):
            return _block(clean, {"transfer": (model(stored["adversarial"]).argmax(1) == labels).numpy()})
    # The stored images are of an earlier version, or of a repeated evaluation.
    return _block(clean, {"square": _under_square(model, images, labels, clean, params, _FEW, cores)})


def _under_square(model: GraphModel, images: Tensor, labels: Tensor, clean: np.ndarray, params: Params, queries: int,
                  cores: Cores | FreeCores) -> np.ndarray:
    """(N,) bool: the images classified correctly under Square; those that are wrong when clean are not attacked."""
    right, stands, size = np.flatnonzero(clean), clean.copy(), params.full_evaluation.batch_size
    for start in range(0, len(right), size):
        places = torch.from_numpy(right[start:start + size])
        with cores.shared():
            found = square(model, images[places], labels[places], eps=params.threat.eps, norm=params.threat.norm,
                           queries=queries, early_stop=True,
                           generator=torch.Generator().manual_seed(params.seed + start))
            stands[places.numpy()] = (model(found).argmax(1) == labels[places]).numpy()
    return stands


def _block(clean: np.ndarray, survived: dict[str, np.ndarray]) -> dict[str, Any]:
    count = len(clean)
    robust = clean & np.all(list(survived.values()), axis=0)
    return {"n": count, "clean_accuracy": float(clean.mean()), "clean_interval": list(wilson(int(clean.sum()), count)),
            "robust_accuracy": float(robust.mean()), "robust_interval": list(wilson(int(robust.sum()), count)),
            "attacks": {name: {"alone": float((clean & stands).mean()), "left": None}
                        for name, stands in survived.items()}}
