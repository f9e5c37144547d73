"""Training, attack evaluation and export of one proposal in one process: what a worker of the local search runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.config import Params, parse
from parapet.cores import Cores
from parapet.search.keys import export_key
from parapet.steps import candidates, results

# Shares of a candidate's time, for the progress line alone.
_TRAINING_SHARE, _ATTACK_SHARE = 0.7, 0.15
_KEY_LENGTH = 16


def run(*, proposal: dict[str, Any], params: dict[str, Any], dataset: str, folder: str, locks: str, device: str,
        progress: results.Report = results.ignore) -> dict[str, Any]:
    """All steps of `proposal` in `folder`, each skipped where its result is there; returns the archive record.

    Everything is JSON, because it comes from another process; `locks` is the folder of the cores' locks.
    """
    # torch stays out of whoever only asks for what is stored
    from parapet.steps import attack_evaluation, export, training

    settings, place, cores = parse(Params, params), Path(folder), Cores(Path(locks))
    training.run(settings, proposal, Path(dataset), place, device=device, cores=cores,
                 progress=lambda text, share: progress(text, share * _TRAINING_SHARE))
    _, attacked, exported = folders(place, proposal, settings)
    attack_evaluation.run(settings, place, Path(dataset), attacked, device=device, cores=cores,
                          progress=lambda text, share: progress(text, _TRAINING_SHARE + share * _ATTACK_SHARE))
    export.run(settings, place, Path(dataset), exported, cores=cores,
               progress=lambda text, share: progress(text, 0.85 + share * _ATTACK_SHARE))
    return stored(proposal, settings, place)


def stored(proposal: dict[str, Any], params: Params, folder: Path) -> dict[str, Any] | None:
    """The archive record of a proposal whose steps have all been done in `folder`, else None."""
    trained, attacked, exported = folders(folder, proposal, params)
    parts = [results.done(trained / results.TRAINING, proposal["training_key"]),
             results.done(attacked / results.ATTACK_EVALUATION, proposal["evaluation_key"]),
             results.done(exported / results.EXPORT, export_key(proposal["training_key"], params))]
    return None if None in parts else candidates.record(proposal, parts, params)


def folders(folder: Path, candidate: dict[str, Any], params: Params) -> tuple[Path, Path, Path]:
    """Where training, attack evaluation and export of a proposal or record lie below its `folder`.

    One training may be attacked and exported under several configurations, and each keeps its own results.
    """
    exported = export_key(candidate["training_key"], params)
    return (folder, folder / f"attacks-{candidate['evaluation_key'][:_KEY_LENGTH]}",
            folder / f"export-{exported[:_KEY_LENGTH]}")
