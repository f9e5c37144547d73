"""Times one candidate: a short training, an attack evaluation on some images, and an export."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from parapet.config import Params, parse
from parapet.data.info import read_info
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.store import results
from parapet.store.records import Request

# The most that is timed of a candidate: epochs, steps per epoch, and images that are attacked.
_EPOCHS, _STEPS, _IMAGES = 4, 24, 128
# So small a radius breaks no image, so that every attack runs on every image: this is the greatest possible cost.
_TINY_EPS = 1e-6
# A network of which half of the images are broken costs about this share of the greatest cost.
_SURVIVING = 0.9


def run(*, genome: dict[str, Any], params: dict[str, Any], dataset: str, device: str,
        progress: results.Report = results.ignore) -> dict[str, Any]:
    """Time the steps of one candidate, by running the steps of a search in a temporary folder.

    Returns {epoch, attacks, export, wait}, in seconds: an epoch over all training images with its share of validation,
    an attack evaluation, an export with its latency measurement, and the start-up of a process before its first
    candidate. Returns {reason} where the training failed or the genome does not fit the images.
    """
    begun = time.monotonic()
    from parapet.search.session import proposal_of
    from parapet.steps import attack_evaluation, export, training

    wait = time.monotonic() - begun
    settings, info = parse(Params, params), read_info(Path(dataset))
    short, share = _shortened(settings, info)
    fidelity = Fidelity(0, True, short.training.epochs, data_share=share)
    proposal = proposal_of(Request(Genome.from_dict(genome), fidelity), short, info, device, 0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trained = training.run(short, proposal, Path(dataset), place, device=device)
        if trained["status"] != "done":
            return {"reason": trained["reason"]}
        progress("attacks", 0.5)
        started = time.monotonic()
        attack_evaluation.run(_unbroken(short), place, Path(dataset), place, device=device)
        attacked = time.monotonic()
        progress("export", 0.9)
        export.run(short, place, Path(dataset), place)
        exported = time.monotonic()
    images = min(settings.attack_evaluation.images, info["images"]["validation"])
    return {"epoch": trained["training_seconds"] / fidelity.epochs / share,
            "attacks": _SURVIVING * (attacked - started) * images / min(images, _IMAGES),
            "export": exported - attacked, "wait": wait}


def _shortened(params: Params, info: dict[str, Any]) -> tuple[Params, float]:
    """The parameters of the timed training, and the share of the training images that it uses.

    It uses the same share of the validation images, so that the time of an epoch divided by the share is that of a
    whole epoch.
    """
    training, available = params.training, info["images"]
    share = min(1.0, _STEPS * training.batch_size / available["train"])
    watched = min(training.validation_images, available["validation"])
    epochs = min(training.epochs, max(_EPOCHS, training.validate_every if share == 1.0 else 0))
    short = replace(training, epochs=epochs, validate_every=min(training.validate_every, epochs),
                    validation_images=max(1, round(share * watched)))
    attacks = replace(params.attack_evaluation, images=min(params.attack_evaluation.images, _IMAGES))
    return replace(params, training=short, attack_evaluation=attacks), share


def _unbroken(params: Params) -> Params:
    return replace(params, threat=replace(params.threat, eps=_TINY_EPS))
