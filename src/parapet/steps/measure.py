"""Training, attack evaluation and export of one proposal in one process: what a worker of the local search runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parapet import log
from parapet.config import Params, parse, to_dict
from parapet.cores import Cores
from parapet.data.info import read_info
from parapet.errors import WorkError
from parapet.genome import Genome
from parapet.processes.pool import Task
from parapet.search import ceilings, looks, lost
from parapet.search.network_space import SearchSpace
from parapet.steps import candidates
from parapet.store import results
from parapet.store.keys import evaluation_key, export_key

# Shares of a candidate's time, for the progress line alone.
_TRAINING_SHARE, _ATTACK_SHARE = 0.7, 0.15
_KEY_LENGTH = 16
_RUN = "parapet.steps.measure:run"


def task(proposal: dict[str, Any], params: Params, dataset: Path, cache: Path, info: dict[str, Any],
         revision: str) -> Task:
    """What a worker is given to `run`; `info` is the prepared data set's dataset.json."""
    genome = Genome.from_dict(proposal["genome"])
    space = SearchSpace(params.search.space, info["image_shape"])
    return Task(proposal["id"], _RUN, {
        "proposal": proposal, "params": to_dict(params), "dataset": str(dataset), "cache": str(cache),
        "revision": revision}, step="measuring", about=lost.about(proposal["id"], genome),
        advice=lost.how_to_leave_out(genome, space), candidate=proposal["id"])


def run(*, proposal: dict[str, Any], params: dict[str, Any], dataset: str, cache: str, device: str,
        revision: str = "unknown", progress: results.Report = results.ignore) -> dict[str, Any]:
    """All steps of `proposal` in its folder of `cache`, each skipped where its result is there; the archive record.

    Everything is JSON, because it comes from another process. `revision` is the code's.
    """
    # torch stays out of whoever only asks for what is stored
    from parapet.steps import attack_evaluation, export, training

    settings, home, data, name = parse(Params, params), Path(cache), Path(dataset), proposal["id"]
    place, cores, parent = folder_of(home, proposal["training_key"]), Cores(home / "locks"), proposal["parent"]
    # A promoted one was timed on the rung below.
    if not proposal.get("undefended") and (parent is None or parent["kind"] == "inherited"):
        with log.span("ceilings", name):
            reason = ceilings.too_slow(settings, Genome.from_dict(proposal["genome"]), read_info(data),
                                       home / "latency", cores)
        if reason is not None:
            # Nothing is left in the cache: to a search without this ceiling the candidate is worth training.
            return candidates.record(proposal, [{"status": "infeasible", "reason": reason}], settings)
    start = folder_of(home, parent["training_key"]) / results.WEIGHTS if parent else None
    with log.span("training", name):
        training.run(settings, proposal, data, place, device=device, start=start, cores=cores,
                     progress=lambda text, share: progress(text, share * _TRAINING_SHARE))
    attacked, exported = _attacked(place, proposal, settings), _exported(place, proposal, settings)
    with log.span("attack_evaluation", name):
        for look, folder in enumerate(attacked, start=1):
            attack_evaluation.run(settings, place, data, folder, device=device, look=look, cores=cores,
                                  progress=lambda text, share: progress(text, _TRAINING_SHARE + share * _ATTACK_SHARE))
    if _is_exported(proposal, settings):
        with log.span("export", name):
            export.run(settings, place, data, exported, attacks=attacked[0], revision=revision, cores=cores,
                       progress=lambda text, share: progress(text, 0.85 + share * _ATTACK_SHARE))
    found = stored(proposal, settings, place)
    if found is None:
        raise WorkError(f"what was measured of candidate {name} was damaged while it was written to {place}; run the "
                        "same command again.")
    return found


def stored(proposal: dict[str, Any], params: Params, folder: Path,
           tell: Callable[[str], None] = lambda text: None) -> dict[str, Any] | None:
    """The archive record of a proposal whose steps have all been done in `folder`, else None.

    What is damaged is not done, and `tell` is told of it.
    """
    key = proposal["training_key"]
    trained = results.done(folder / results.TRAINING, key, tell)
    if trained is None:
        return None

    def found(path: Path, key: str) -> dict[str, Any] | None:
        result, weights = results.done(path, key, tell), trained["digests"].get(results.WEIGHTS)
        # Of other weights: they were trained again since, and came out otherwise.
        return result if result is not None and result.get("weights", weights) == weights else None

    looked = [found(path / results.ATTACK_EVALUATION, evaluation_key(key, params, "attack_evaluation", look))
              for look, path in enumerate(_attacked(folder, proposal, params), start=1)]
    attacked = [result for result in looked if result is not None]
    if len(attacked) < len(looked):
        return None
    done = [result for result in attacked if result["status"] == "done"]
    parts = [trained, looks.pooled(done) if len(done) == len(attacked) else attacked[-1]]
    if _is_exported(proposal, params):
        exported = found(_exported(folder, proposal, params) / results.EXPORT, export_key(key, params))
        if exported is None:
            return None
        parts.append(exported)
    return candidates.record(proposal, parts, params)


def folder_of(cache: Path, training_key: str) -> Path:
    """Where everything of one training lies in the cache."""
    return cache / "candidates" / training_key[:32]


def folders(cache: Path, record: dict[str, Any], params: Params) -> tuple[Path, Path, Path]:
    """Where training, first attack evaluation and export of a record lie.

    One training may be attacked and exported under several configurations, and each keeps its own results.
    """
    folder = folder_of(cache, record["training_key"])
    return folder, _attacked(folder, {**record, "look": 1}, params)[0], _exported(folder, record, params)


def _attacked(folder: Path, proposal: dict[str, Any], params: Params) -> list[Path]:
    """A folder a look, up to that of the proposal."""
    keys = [evaluation_key(proposal["training_key"], params, "attack_evaluation", look)
            for look in range(1, proposal["look"] + 1)]
    return [folder / f"attacks-{key[:_KEY_LENGTH]}" for key in keys]


def _exported(folder: Path, proposal: dict[str, Any], params: Params) -> Path:
    return folder / f"export-{export_key(proposal['training_key'], params)[:_KEY_LENGTH]}"


def _is_exported(proposal: dict[str, Any], params: Params) -> bool:
    """Cheap rungs do without a graph, which may take longer than their training, unless somebody asks for latency."""
    return proposal["fidelity"]["full"] or "latency_ms" in params.search.objectives
