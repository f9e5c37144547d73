"""What makes two pieces of work the same: keys of trainings, evaluations and searches, and a candidate's seed."""

from __future__ import annotations

from typing import Any

from parapet.config import Params, subset, to_dict
from parapet.files import digest
from parapet.genome import Genome
from parapet.versions import ATTACK_VERSION, TRAINING_VERSION

_ID_LENGTH = 12


def candidate_seed(search_seed: int, genome: Genome) -> int:
    """A seed in [0, 2**62) from the search's seed and the genome, never from a place in the queue."""
    return int(digest([search_seed, genome.digest()])[:16], 16) % 2**62


def training_key(genome: Genome, params: Params, fingerprint: str, device: str) -> str:
    """SHA-256 of everything that a training's weights depend on; `device` is its kind, "cpu" or "cuda"."""
    training = {name: value for name, value in to_dict(params.training).items() if name != "checkpoint_seconds"}
    return digest({"genome": genome.canonical().to_dict(), "fidelity": fidelity(params), "data": fingerprint,
                   "training": training, "threat": to_dict(params.threat), "device": device.split(":")[0],
                   "seed": candidate_seed(params.seed, genome), "threads": params.search.threads, "parent": None,
                   "version": TRAINING_VERSION})


def evaluation_key(training: str, params: Params, section: str) -> str:
    """SHA-256 of a training's key and the evaluation's configuration, `attack_evaluation` or `full_evaluation`."""
    return digest({"training": training, "evaluation": subset(params, [section]), "seed": params.seed,
                   "version": ATTACK_VERSION})


def export_key(training: str, params: Params) -> str:
    """SHA-256 of a training's key and the export's configuration."""
    return digest({"training": training, "export": to_dict(params.export)})


def search_key(params: Params, fingerprint: str, device: str) -> str:
    """SHA-256 of everything that the course of a search depends on.

    The number of generations is not part of it: a longer search goes on where a shorter one ended.
    """
    search = to_dict(params.search)
    for name in ("generations", "workers", "attempts", "timeout_seconds", "ideal", "reference"):
        search.pop(name)
    reference = Genome()
    return digest({"search": search, "training": training_key(reference, params, fingerprint, device),
                   "evaluation": evaluation_key("", params, "attack_evaluation"), "seed": params.seed,
                   "export": to_dict(params.export)})


def fidelity(params: Params) -> dict[str, Any]:
    """How much training a candidate gets."""
    return {"epochs": params.training.epochs, "data_share": 1.0}


def short_id(training: str) -> str:
    """The candidate's id: the first twelve hex digits of its training key."""
    return training[:_ID_LENGTH]
