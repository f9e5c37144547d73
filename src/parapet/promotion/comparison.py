"""Compares the new model with the champion: both are attacked by today's suite on the same test images (paired)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parapet.config import Params, to_dict
from parapet.disk.files import digest
from parapet.errors import WorkError
from parapet.processes.pool import Task, Workers
from parapet.progress import Progress
from parapet.store import results
from parapet.store.keys import full_evaluation_key, surrogates_of
from parapet.store.search_folder import SearchFolder

_EVALUATE = "parapet.steps.full_evaluation:evaluate"


@dataclass(frozen=True)
class Paired:
    """Of `n` images, how many only the champion and how many only the challenger classifies correctly.

    `p` is the one-sided p-value of the exact McNemar test (1947), small where the challenger is worse.
    """

    n: int
    only_champion: int
    only_challenger: int
    p: float

    @classmethod
    def of(cls, champion: np.ndarray, challenger: np.ndarray) -> Paired:
        """From two (N,) arrays of bool: whether each image is classified correctly, in the same order."""
        from parapet.intervals import sign_test  # imports torch, which only workers need

        first, second = int((champion & ~challenger).sum()), int((challenger & ~champion).sum())
        return cls(len(champion), first, second, sign_test(first, second))


@dataclass(frozen=True)
class Comparison:
    """Clean and robust accuracy of challenger and champion, paired."""

    clean: Paired
    robust: Paired

    @classmethod
    def of(cls, champion: dict[str, Any], challenger: dict[str, Any]) -> Comparison:
        """From two evaluations of the same images (evaluation/<id>.json)."""
        both = [marks(result["evaluation"]["outcomes"]) for result in (champion, challenger)]
        return cls(*(Paired.of(*(found[kind] for found in both)) for kind in ("clean", "robust")))

    def refusals(self, champion: str, significance: float) -> list[str]:
        """A sentence for each accuracy in which the challenger is significantly worse than `champion` (a name)."""
        return [f"it is worse than {champion} in {name} accuracy beyond noise: of {pairs.n:,} test images "
                f"{pairs.only_champion:,} are right with the champion alone and {pairs.only_challenger:,} with this "
                f"one alone (one-sided exact McNemar test, p = {pairs.p:.2g}, below promotion.significance "
                f"{significance:g})"
                for name, pairs in (("clean", self.clean), ("robust", self.robust)) if pairs.p < significance]


def attack(params: Params, challenger: str, champion: Path | None, out: Path, dataset: Path, cache: Path,
           devices: Sequence[str], tell: Callable[[str], None] = lambda text: None) -> list[dict[str, Any]]:
    """Today's evaluations (evaluation/<id>.json) of candidate `challenger` of `out`/front.json and, unless it is None,
    of the model in folder `champion`, in this order.

    `champion` holds model.safetensors, model.onnx and training.json. An evaluation that was made before under the same
    configuration (by full_evaluation, or here) is taken from `cache` or `out`, unless it is damaged, which is reported
    to `tell`. Raises InputError where `dataset` is not the one that both were trained on and where the files of a
    candidate are damaged, WorkError where an evaluation fails.
    """
    search = SearchFolder(out / "search")
    ids, candidates = search.all_ids(), out / "search" / "candidates"
    folders, found, tasks = [search.candidate(challenger)], [], []
    if champion is not None:
        own = candidates / results.trained(champion, registered=True)["id"]
        folders.append(own if own.name in ids and _same(search.candidate(own.name), champion) else champion)
    for folder in folders:
        trained = results.trained(folder, registered=True)
        name, known = trained["id"], folder != champion
        place = cache / "evaluations" / name if known else (
            folder / f"evaluation-{digest(to_dict(params.threat))[:12]}")
        surrogates = [str(candidates / one) for one in (surrogates_of(name, ids) if known else [ids[0], challenger])]
        for one in surrogates:
            search.candidate(Path(one).name)
        key = full_evaluation_key(params, trained["key"], results.file_digests(folder), surrogates)
        record = f"{name}.json"
        if known and not results.done(place / record, key, tell) and results.done(out / "evaluation" / record, key):
            _copy_evaluation(out / "evaluation", place, name)
        if not results.done(place / record, key):
            tasks.append(Task(name, _EVALUATE, {
                "params": to_dict(params), "candidate": str(folder), "dataset": str(dataset), "out": str(place),
                "locks": str(cache / "locks"), "surrogates": surrogates},
                step="full_evaluation", about=f"candidate {name}", candidate=name))
        found.append((place / record, key))
    if tasks:
        work(tasks, params, devices)
    evaluations = []
    for path, key in found:
        if (evaluation := results.done(path, key)) is None:
            raise WorkError(f"{path} was damaged while it was written; promote again.")
        evaluations.append(evaluation)
    return evaluations


def work(tasks: list[Task], params: Params, devices: Sequence[str]) -> None:
    """Run the gate's tasks in worker processes, and show their progress. Raises WorkError where one fails."""
    with Workers(devices[:len(tasks)], attempts=params.search.attempts, timeout=params.search.timeout_seconds) \
            as workers, Progress("gate", len(tasks), "models") as progress:
        shares = [0.0] * len(tasks)

        def on_progress(place: int, text: str, share: float) -> None:
            shares[place] = share
            progress.update(sum(shares), f"{tasks[place].name[:6]} {text}")

        for place, outcome in workers.run(tasks, on_progress):
            if outcome.result is None:
                raise WorkError(f"the attack on {tasks[place].name} failed: {outcome.reason}; the champion stays, and "
                                "what is attacked already is kept, so promote again.")
            shares[place] = 1.0
            progress.update(sum(shares), "done" if sum(shares) == len(tasks) else "")


def _same(first: Path, second: Path) -> bool:
    return results.file_digests(first) == results.file_digests(second)


def _copy_evaluation(source: Path, target: Path, name: str) -> None:
    """Copy an evaluation from the artifacts of full_evaluation, where the cache does not have it."""
    target.mkdir(parents=True, exist_ok=True)
    # The record is copied last: its presence means that all files are there.
    for path in sorted(source.glob(f"{name}[.-]*"), key=lambda path: path.suffix == ".json"):
        if path.is_file():
            shutil.copyfile(path, target / path.name)


def marks(outcomes: dict[str, str]) -> dict[str, np.ndarray]:
    """{clean, robust}: (N,) bool, which images are classified correctly when clean, and which under every attack.

    `outcomes` has a row of 0 and 1 per attack, one character per image.
    """
    rows = {name: np.array([mark == "1" for mark in row]) for name, row in outcomes.items()}
    return {"clean": rows["clean"], "robust": np.logical_and.reduce(list(rows.values()))}
