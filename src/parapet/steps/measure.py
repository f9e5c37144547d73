"""Trains, attacks and exports one proposal in one process; the workers of the local search run this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from parapet import log
from parapet.config import Params, parse, to_dict
from parapet.cores import Cores
from parapet.data.info import read_info
from parapet.errors import WorkError
from parapet.processes.pool import Task
from parapet.search import ceilings, lost
from parapet.search.feasibility import infeasible_record, record_of
from parapet.search.network_space import SearchSpace
from parapet.search.repeated_evaluations import pooled
from parapet.store import results
from parapet.store.keys import evaluation_key, export_key
from parapet.store.records import Proposal, Record

# Shares of a candidate's time that the progress line assumes.
_TRAINING_SHARE, _ATTACK_SHARE = 0.7, 0.15
_KEY_LENGTH = 16
_RUN = "parapet.steps.measure:run"


def task(proposal: Proposal, params: Params, dataset: Path, cache: Path, info: Mapping[str, Any],
         revision: str) -> Task:
    """The task that calls `run` in a worker; `info` is the content of the prepared data set's dataset.json."""
    space = SearchSpace(params.search.space, info["image_shape"])
    return Task(proposal.id, _RUN, {
        "proposal": proposal.to_json(), "params": to_dict(params), "dataset": str(dataset), "cache": str(cache),
        "revision": revision}, step="measuring", about=lost.about(proposal.id, proposal.genome),
        advice=lost.how_to_leave_out(proposal.genome, space), candidate=proposal.id)


def run(*, proposal: dict[str, Any], params: dict[str, Any], dataset: str, cache: str, device: str,
        revision: str = "unknown", progress: results.Report = results.ignore) -> dict[str, Any]:
    """Do all steps of `proposal` in its folder of `cache`, except those whose result is there already.

    Returns the archive record. Arguments and record are JSON, because they pass between processes. `revision` is the
    git revision of the code. Raises WorkError where the results cannot be read back.
    """
    return _run(Proposal.from_json(proposal), parse(Params, params), Path(dataset), Path(cache), device, revision,
                progress).to_json()


def _run(proposal: Proposal, params: Params, dataset: Path, cache: Path, device: str, revision: str,
         progress: results.Report) -> Record:
    # imported here, because the callers of `task` and `stored` do not need torch
    from parapet.steps import attack_evaluation, export, training

    place, cores, parent = folder_of(cache, proposal.training_key), Cores(cache / "locks"), proposal.parent
    # A candidate that was promoted from a lower rung was timed there.
    if not proposal.undefended and (parent is None or parent.kind == "inherited"):
        with log.span("ceilings", proposal.id):
            reason = ceilings.too_slow(params, proposal.genome, read_info(dataset), cache / "latency", cores)
        if reason is not None:
            # Nothing is stored in the cache, because a search without this ceiling would train the candidate.
            return infeasible_record(proposal, reason, params)
    start = folder_of(cache, parent.training_key) / results.WEIGHTS if parent else None
    with log.span("training", proposal.id):
        training.run(params, proposal, dataset, place, device=device, start=start, cores=cores,
                     progress=lambda text, share: progress(text, share * _TRAINING_SHARE))
    attacked = _attacked(place, proposal.training_key, params, proposal.evaluation)
    exported = _exported(place, proposal.training_key, params)
    with log.span("attack_evaluation", proposal.id):
        for number, folder in enumerate(attacked, start=1):
            attack_evaluation.run(params, place, dataset, folder, device=device, number=number, cores=cores,
                                  progress=lambda text, share: progress(text, _TRAINING_SHARE + share * _ATTACK_SHARE))
    if _is_exported(proposal, params):
        with log.span("export", proposal.id):
            export.run(params, place, dataset, exported, attacks=attacked[0], revision=revision, cores=cores,
                       progress=lambda text, share: progress(text, 0.85 + share * _ATTACK_SHARE))
    found = stored(proposal, params, place)
    if found is None:
        raise WorkError(f"what was measured of candidate {proposal.id} was damaged while it was written to {place}; "
                        "run the same command again.")
    return found


def stored(proposal: Proposal, params: Params, folder: Path,
           tell: Callable[[str], None] = lambda text: None) -> Record | None:
    """The archive record of a proposal whose steps have all been done in `folder`, else None.

    A damaged result counts as not done, and is reported to `tell`.
    """
    key = proposal.training_key
    trained = results.done(folder / results.TRAINING, key, tell)
    if trained is None:
        return None

    def found(path: Path, key: str) -> dict[str, Any] | None:
        result, weights = results.done(path, key, tell), trained["digests"].get(results.WEIGHTS)
        # A result for other weights is outdated: the candidate was trained again since.
        return result if result is not None and result.get("weights", weights) == weights else None

    evaluated = [found(path / results.ATTACK_EVALUATION, evaluation_key(key, params, "attack_evaluation", number))
                 for number, path in enumerate(_attacked(folder, key, params, proposal.evaluation), start=1)]
    attacked = [result for result in evaluated if result is not None]
    if len(attacked) < len(evaluated):
        return None
    done = [result for result in attacked if result["status"] == "done"]
    parts = [trained, pooled(done) if len(done) == len(attacked) else attacked[-1]]
    if _is_exported(proposal, params):
        exported = found(_exported(folder, key, params) / results.EXPORT, export_key(key, params))
        if exported is None:
            return None
        parts.append(exported)
    return record_of(proposal, parts, params)


def folder_of(cache: Path, training_key: str) -> Path:
    """The folder of one training in the cache."""
    return cache / "candidates" / training_key[:32]


def folders(cache: Path, training_key: str, params: Params) -> tuple[Path, Path, Path]:
    """The folders of a training, of its first attack evaluation and of its export.

    One training may be attacked and exported under several configurations, each of which has its own folders.
    """
    folder = folder_of(cache, training_key)
    return folder, _attacked(folder, training_key, params, 1)[0], _exported(folder, training_key, params)


def _attacked(folder: Path, training_key: str, params: Params, evaluations: int) -> list[Path]:
    """The folders of the first `evaluations` attack evaluations."""
    keys = [evaluation_key(training_key, params, "attack_evaluation", number)
            for number in range(1, evaluations + 1)]
    return [folder / f"attacks-{key[:_KEY_LENGTH]}" for key in keys]


def _exported(folder: Path, training_key: str, params: Params) -> Path:
    return folder / f"export-{export_key(training_key, params)[:_KEY_LENGTH]}"


def _is_exported(proposal: Proposal, params: Params) -> bool:
    """Whether a proposal is exported: at full fidelity, or where latency is an objective.

    On a lower rung an export may take longer than the training.
    """
    return proposal.fidelity.full or "latency_ms" in params.search.objectives
