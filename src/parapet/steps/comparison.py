"""The new model against the champion: both attacked by today's suite on the same test images, pair by pair."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parapet.config import Params, to_dict
from parapet.errors import WorkError
from parapet.files import digest, read_json
from parapet.progress import Progress
from parapet.search.workers import Task, Workers
from parapet.steps import candidates, results

_EVALUATE = "parapet.steps.full_evaluation:evaluate"


@dataclass(frozen=True)
class Paired:
    """Of `n` images, how many only one of two models gets right, and the chance of that where they are equally good.

    `p` is one-sided, small where the challenger is worse (exact test of McNemar 1947).
    """

    n: int
    only_champion: int
    only_challenger: int
    p: float

    @classmethod
    def of(cls, champion: np.ndarray, challenger: np.ndarray) -> Paired:
        """From two arrays of bool, an entry an image, in the same order."""
        from parapet.attacks.intervals import sign_test  # with it comes torch, which only workers need

        first, second = int((champion & ~challenger).sum()), int((challenger & ~champion).sum())
        return cls(len(champion), first, second, sign_test(first, second))


@dataclass(frozen=True)
class Comparison:
    """Clean and robust accuracy of challenger and champion, paired."""

    clean: Paired
    robust: Paired

    def refusals(self, champion: str, significance: float) -> list[str]:
        """In what the challenger is worse than `champion` (its name) beyond noise, with the numbers."""
        return [f"it is worse than {champion} in {name} accuracy beyond noise: of {pairs.n:,} test images "
                f"{pairs.only_champion:,} are right with the champion alone and {pairs.only_challenger:,} with this "
                f"one alone (one-sided exact McNemar test, p = {pairs.p:.2g}, below promotion.significance "
                f"{significance:g})"
                for name, pairs in (("clean", self.clean), ("robust", self.robust)) if pairs.p < significance]


def compare(params: Params, challenger: str, champion: Path, out: Path, dataset: Path, cache: Path,
            devices: Sequence[str]) -> Comparison:
    """Attack candidate `challenger` of `out`/front.json and the model in folder `champion`, and pair the outcomes.

    `champion` holds model.safetensors, model.onnx and training.json. What was evaluated before under the same
    configuration (by full_evaluation, or here) is taken from `cache` or `out` and not attacked again. Raises
    InputError where `dataset` is not the one that both were trained for, WorkError where an evaluation fails.
    """
    ids, home = _ids(out), out / "search" / "candidates"
    other = read_json(champion / results.TRAINING)["id"]
    folders = {challenger: home / challenger, other: home / other if other in ids else champion}
    places = {name: cache / "evaluations" / name if name in ids else
              champion / f"evaluation-{digest(to_dict(params.threat))[:12]}" for name in folders}
    for name in folders:
        if name in ids:
            _bring(out / "evaluation", places[name], name)
    tasks = [Task(name, _EVALUATE, {
        "params": to_dict(params), "candidate": str(folder), "dataset": str(dataset), "out": str(places[name]),
        "locks": str(cache / "locks"),
        "surrogates": [str(home / one) for one in (_surrogates(name, ids) if name in ids else [ids[0], challenger])]})
        for name, folder in folders.items()]
    _run(tasks, params, devices)
    marks = [_marks(read_json(places[name] / f"{name}.json")["evaluation"]["outcomes"]) for name in (other, challenger)]
    return Comparison(*(Paired.of(*(found[kind] for found in marks)) for kind in ("clean", "robust")))


def _run(tasks: list[Task], params: Params, devices: Sequence[str]) -> None:
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


def _ids(out: Path) -> list[str]:
    """The undefended network, if it was trained, and the front, in the order in which full_evaluation went."""
    ids = list(read_json(out / "search" / candidates.FRONT_IDS)["ids"])
    undefended = read_json(out / "search" / candidates.UNDEFENDED)
    return [undefended["id"], *ids] if undefended and undefended["status"] == "feasible" else ids


def _surrogates(name: str, ids: list[str]) -> list[str]:
    """Those that full_evaluation lends its audit, so that what it did is found done."""
    following = ids[(ids.index(name) + 1) % len(ids)]
    return [other for other in dict.fromkeys([ids[0], following]) if other != name]


def _bring(source: Path, target: Path, name: str) -> None:
    """What full_evaluation left in the artifacts, where its cache is not at hand."""
    if not (target / f"{name}.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        for path in source.glob(f"{name}.*"):
            if path.is_file():
                shutil.copyfile(path, target / path.name)


def _marks(outcomes: dict[str, str]) -> dict[str, np.ndarray]:
    """Which images are right when clean, and which under every attack: the suite's rows of 0 and 1, one an image."""
    rows = {name: np.array([mark == "1" for mark in row]) for name, row in outcomes.items()}
    return {"clean": rows["clean"], "robust": np.logical_and.reduce(list(rows.values()))}
