"""Keys of trainings, evaluations, exports and searches (equal keys mean equal results), and a candidate's seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from parapet.catalogue import plugins
from parapet.catalogue.attacks import ATTACKS
from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.genes import GENES
from parapet.catalogue.losses import LOSSES
from parapet.catalogue.quantities import OBJECTIVES
from parapet.config import Params, subset, to_dict
from parapet.disk.files import digest
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.store.records import Request
from parapet.versions import ATTACK_VERSION, EXPORT_VERSION, TRAINING_VERSION

_ID_LENGTH = 12


def candidate_seed(search_seed: int, genome: Genome, repeat: int = 0) -> int:
    """A seed in [0, 2**62) from the search's seed, the genome and the repeat, independent of the order of work."""
    parts = [search_seed, genome.digest()] + ([repeat] if repeat else [])
    return int(digest(parts)[:16], 16) % 2**62


def training_key(request: Request, params: Params, fingerprint: str, device: str) -> str:
    """SHA-256 (hex) of everything that a training's weights depend on; of `device` only the type, "cpu" or "cuda".

    The number of the rung is not part of it: the same training has the same key on every ladder.
    """
    training = {name: value for name, value in to_dict(params.training).items()
                if name not in ("checkpoint_seconds", "epochs") and (name, value) != ("gpus", 1)}
    fidelity = request.fidelity
    return digest({"genome": request.genome.canonical().to_dict(),
                   "fidelity": [fidelity.epochs, fidelity.data_share, fidelity.crafting], "data": fingerprint,
                   "training": training, "threat": to_dict(params.threat), "device": device.split(":")[0],
                   "seed": candidate_seed(params.seed, request.genome, request.repeat),
                   "threads": params.search.threads, "parent": request.parent and vars(request.parent),
                   "version": TRAINING_VERSION,
                   **_plugins(request.genome.declarations())})


def evaluation_key(training: str, params: Params, section: str, number: int = 1) -> str:
    """SHA-256 (hex) of a training's key and the evaluation's configuration `section`: `attack_evaluation` or
    `full_evaluation`.

    `number` counts evaluations of the same training, from 1; each has other noise and, where there are enough, other
    images.
    """
    evaluation = subset(params, [section])
    also = evaluation[section].pop("also")
    if also:  # left out where empty, so that keys from before this option stay the same
        evaluation[section]["also"] = also
    return digest({"training": training, "evaluation": evaluation, "seed": params.seed, "version": ATTACK_VERSION,
                   **_plugins(ATTACKS[name] for name in also)} | ({"look": number} if number > 1 else {}))


def export_key(training: str, params: Params) -> str:
    """SHA-256 (hex) of a training's key and the export's configuration."""
    return digest({"training": training, "export": to_dict(params.export), "version": EXPORT_VERSION})


def search_key(params: Params, fingerprint: str, device: str) -> str:
    """SHA-256 (hex) of everything that the results of a search depend on, except its budget.

    A search with a larger budget has the same key, because it continues where the shorter one ended.
    """
    search = to_dict(params.search)
    for name in ("generations", "budget", "final_seeds", "workers", "attempts", "timeout_seconds", "ideal",
                 "reference"):
        search.pop(name)
    search["looks"] = search.pop("evaluations")  # its former name, so that keys stay the same
    full = Fidelity.ladder(params.search.rungs, params.training.epochs)[-1]
    return digest({"search": search, "training": training_key(Request(Genome(), full), params, fingerprint, device),
                   "evaluation": evaluation_key("", params, "attack_evaluation"), "seed": params.seed,
                   "export": to_dict(params.export), **_plugins(_of_search(params))})


def full_evaluation_key(params: Params, training: str, files: dict[str, str], surrogates: Iterable[str]) -> str:
    """SHA-256 (hex) of what a full evaluation depends on: the training's key, the digests of the files
    (`results.file_digests`), the names of the surrogates' folders, and the configuration."""
    return digest([evaluation_key(training, params, "full_evaluation"), files,
                   [Path(folder).name for folder in surrogates], to_dict(params.export), EXPORT_VERSION])


def surrogates_of(name: str, ids: list[str]) -> list[str]:
    """The ids of the surrogates for the transfer attack in the audit of `name`: the first of `ids`, which is the
    undefended network, and the one after `name` in cyclic order; never `name` itself."""
    following = ids[(ids.index(name) + 1) % len(ids)]
    return [other for other in dict.fromkeys([ids[0], following]) if other != name]


def _of_search(params: Params) -> Iterator[Any]:
    """The declarations that a search with these parameters may use."""
    yield from (OBJECTIVES[name] for name in params.search.objectives)
    space = params.search.space
    yield from (REGULARISERS[name] for name in space if name in REGULARISERS)
    losses = [LOSSES[name] for name in space.get("loss", GENES["loss"].choices) if name in LOSSES]
    for name, gene in GENES.items():
        if name in space or any(name in loss.genes.values() for loss in losses):
            yield gene
        if gene.words is not None:
            yield from (gene.words[word] for word in space.get(name, gene.choices) if word in gene.words)


def _plugins(declarations: Iterable[Any]) -> dict[str, Any]:
    """The part of a key with the digests of the plugins that define any of `declarations`; empty where none does."""
    sources = plugins.sources(declarations)
    return {"plugins": sources} if sources else {}


def short_id(training: str) -> str:
    """The candidate's id: the first twelve hex digits of its training key."""
    return training[:_ID_LENGTH]
