"""export: exports one candidate to ONNX, checks parity with torch, and measures the latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from parapet.config import Params
from parapet.cores import Cores, FreeCores
from parapet.data.dataset import Dataset
from parapet.deployment import ParityError, check_parity, footprint, measure_latency
from parapet.deployment import export as export_onnx
from parapet.disk.files import file_digest
from parapet.errors import InputError, is_of_the_machine
from parapet.models import load
from parapet.store import results
from parapet.store.keys import export_key

SECTIONS = ("device", "data", "threat", "search", "export")
_PARITY_IMAGES = 64


def run(params: Params, candidate: Path, dataset: Path, out: Path, *, attacks: Path | None = None,
        revision: str = "unknown", cores: Cores | FreeCores | None = None,
        progress: results.Report = results.ignore) -> dict[str, Any]:
    """Export the network in folder `candidate` (written by `training`) to model.onnx and export.json in `out`.

    Parity of graph and network is checked on clean validation images and on the adversarial images in folder `attacks`
    (written by `attack_evaluation`); where it fails, the candidate is infeasible. `revision` is the git revision, for
    the metadata of the ONNX file. Returns the content of export.json.
    """
    trained = results.trained(candidate)
    weights = trained["digests"].get(results.WEIGHTS)
    key = export_key(trained["key"], params)
    if (result := results.done(out / results.EXPORT, key)) is not None \
            and result.get("weights", weights) == weights:
        return result
    common = {"candidate": trained["id"], "key": key, "weights": weights}
    if trained["status"] != "done":
        return results.write(out / results.EXPORT, **common, status="infeasible", reason=trained["reason"])
    torch.set_num_threads(params.search.threads)
    config, cores = params.export, cores or FreeCores()
    data = Dataset.open(dataset)
    results.check_data(data.fingerprint, trained["fingerprint"], dataset)
    network = load(candidate / results.WEIGHTS)
    images, labels = data.split("validation", limit=_PARITY_IMAGES).all()
    progress("export", 0.0)
    try:
        with cores.shared():
            export_onnx(network, out / results.ONNX, opset=config.opset, metadata={
                "id": trained["id"], "genome": network.genome.to_dict(), "threat": str(params.threat),
                "fingerprint": data.fingerprint, "classes": list(data.classes), "git_revision": revision})
            parity = check_parity(network, out / results.ONNX, images, labels=labels, tolerance=config.tolerance,
                                  adversarial=_adversarial(attacks))
    except (ParityError, RuntimeError, InputError) as error:
        if is_of_the_machine(error):
            raise
        return results.write(out / results.EXPORT, **common, status="infeasible", reason=f"export: {error}")
    progress("latency", 0.9)
    with cores.exclusive():
        latency = measure_latency(out / results.ONNX, network.image_shape, batch=config.latency_batch,
                                  threads=config.latency_threads, warmup=config.latency_warmup,
                                  runs=config.latency_runs, seconds=config.latency_seconds,
                                  throughput_batch=config.throughput_batch)
    return results.write(out / results.EXPORT, **common, beside=[results.ONNX], parity=parity, latency_ms=latency,
                         footprint=footprint(out / results.ONNX, network.image_shape, batch=config.latency_batch),
                         sha256=file_digest(out / results.ONNX))


def _adversarial(attacks: Path | None) -> tuple[Tensor, Tensor] | None:
    if attacks is None or not (attacks / results.ATTACK_EVALUATION).exists():
        return None
    attacked = results.read(attacks / results.ATTACK_EVALUATION, "run the step attack_evaluation again")
    if results.ADVERSARIAL not in attacked["digests"]:
        return None
    found = load_file(attacks / results.ADVERSARIAL)
    return found["adversarial"], found["labels"]
