"""A candidate measured for its time alone: trained a little, attacked on some images, exported."""

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

# What is timed of a candidate at most: epochs, steps in each of them, and images that are attacked.
_EPOCHS, _STEPS, _IMAGES = 4, 24, 128
# No image is broken in so small a ball, so that every attack meets every image, which is the most that it can cost.
_TINY_EPS = 1e-6
# A network that loses half of its images costs about this share of the most.
_SURVIVING = 0.9


def run(*, genome: dict[str, Any], params: dict[str, Any], dataset: str, device: str,
        progress: results.Report = results.ignore) -> dict[str, Any]:
    """Seconds of the steps of one candidate, by the steps of a search themselves, in a folder that is thrown away.

    {epoch, attacks, export, wait}: of an epoch over all training images with its share of validation, of an attack
    evaluation, of an export with its latency; and of what a process does before its first candidate. {reason} for
    a genome whose training failed or that has no network for the images.
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
    """The parameters of the timed training, and the share of the training images that it sees; of validation it sees
    the same share, so that an epoch divided by the share is a whole one."""
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
