"""One live run of each search on MNIST: half an hour of training time each, real trainings, real attacks.

Every search has the same space, the same full training and the same evaluation, and works on as many processes. It ends
with the round in which its processes have been busy for the budget; curves are over seconds of training alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.strategies import optuna_version, suggested
from parapet.config import Params, parse, to_dict
from parapet.data.info import read_info
from parapet.disk.files import write_json
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.processes.pool import Task, Workers
from parapet.search.feasibility import infeasible_record
from parapet.search.front import front, hypervolume, measured_objectives
from parapet.search.network_space import SearchSpace
from parapet.search.schedule import trained_from_scratch
from parapet.search.session import proposal_of
from parapet.steps import data_prep, measure, search
from parapet.store.records import Record, Request, latest, read
from parapet.store.search_folder import ARCHIVE
from parapet.tracking import NullTracker

RECORD = Path("benchmarks/results/search-live.json")
SCHEMA_VERSION = 1
_MEASURE = "parapet.steps.measure:run"
TEST_IMAGES = 1000
SPACE = {"backbone": ["plain", "residual", "separable"], "width": [4, 8, 16], "depth": [1, 2], "activation": ["relu"],
         "denoiser": ["none"], "denoiser_stage": [1], "input_filter": ["none"], "loss": ["pgd", "trades"],
         "clean_share": [0.0, 0.5], "trades_beta": [1.0, 4.0], "eps_ratio": [1.0], "steps": [2, 3],
         "learning_rate": [0.1, 0.2], "weight_decay": [5e-4]}
OURS = {"plain NSGA-II": {}, "rungs, warm starts": {"rungs": [{"epochs": 2}], "warm_start": True},
        "rung, full from scratch": {"rungs": [{"epochs": 2}], "full_from_scratch": True}}
OTHERS = ("random search", "Optuna NSGAIISampler")


def params(hours: float, workers: int, changes: dict[str, Any]) -> Params:
    """The search on a part of MNIST; `changes` to its section `search`."""
    return parse(Params, {
        "data": {"name": "mnist"}, "threat": {"norm": "linf", "eps": 0.3}, "device": "cpu",
        "data_prep": {"limit_train": 7500}, "training": {"epochs": 6, "batch_size": 64},
        "attack_evaluation": {"images": 500, "suite": "pgd", "pgd_steps": 10}, "tracking": {"enabled": False},
        "search": {"space": SPACE, "population": 6, "budget": f"{hours} gpu-hours", "workers": workers,
                   "minimum_clean_accuracy": 0.5, "ideal": [0.0, 0.0, 4.0], "reference": [1.0, 1.0, 8.0], **changes}})


def run(names: list[str], data: Path, work: Path, record: Path, *, hours: float, workers: int,
        say: Callable[[str], None]) -> dict[str, Any]:
    """Run the searches `names`, each in a cache of its own below `work`, and write what they come to to `record`."""
    found = {"schema_version": SCHEMA_VERSION, "hours": hours, "workers": workers, "runs": {}}
    if record.exists():
        found["runs"] = json.loads(record.read_text())["runs"]
    for name in names:
        settings = params(hours, workers, OURS.get(name, {}))
        dataset, home = work / "dataset", work / name.replace(" ", "-").replace(",", "")
        if not (dataset / "dataset.json").exists():
            data_prep.run(settings, [data], dataset)
        started = time.time()
        if name in OURS:
            search.run(settings, dataset, home / "out", home / "cache", devices=["cpu"] * workers,
                       tracker=NullTracker())
            records = latest(read(home / "out" / ARCHIVE))
        else:
            records = _other(name, settings, dataset, home, hours * 3600, workers)
        found["runs"][name] = _came_to(records, settings, dataset, home / "cache") | {
            "wall_seconds": round(time.time() - started, 1), "search": to_dict(settings)["search"]}
        write_json(record, found)
        row = found["runs"][name]
        say(f"{name}: {row['trained']} trainings, {row['training_seconds']:.0f} s of training; hypervolume "
            f"{row['validation']:.4f} on validation, {row['test']:.4f} on {TEST_IMAGES} test images, "
            f"{row['front']} on the front")
    return found


def _other(name: str, settings: Params, dataset: Path, home: Path, seconds: float,
           workers: int) -> list[dict[str, Any]]:
    """Records of random search, or of Optuna's, at full fidelity, as many at a time as there are workers."""
    info = read_info(dataset)
    space = SearchSpace(SPACE, info["image_shape"])
    asker = _Optuna(space, settings) if name.startswith("Optuna") else _Random(space)
    full, records, busy = Fidelity.ladder((), settings.training.epochs)[-1], {}, 0.0
    with Workers(["cpu"] * workers, attempts=settings.search.attempts) as pool:
        while busy < seconds:
            genomes = [asker.ask() for _ in range(workers)]
            proposals = [proposal_of(Request(genome, full), settings, info, "cpu", len(records) // workers)
                         for genome in genomes]
            tasks = {proposal.id: Task(proposal.id, _MEASURE, {
                "proposal": proposal.to_json(), "params": to_dict(settings), "dataset": str(dataset),
                "cache": str(home / "cache")}) for proposal in proposals if proposal.id not in records}
            for place, result in pool.run(list(tasks.values())):
                busy += result.seconds
                proposal = next(each for each in proposals if each.id == list(tasks)[place])
                records[proposal.id] = (Record.from_json(result.result) if result.result else
                                        infeasible_record(proposal, result.reason, settings))
            for proposal in proposals:
                asker.tell(records[proposal.id])
    return list(records.values())


class _Random:
    """Genomes drawn evenly, none twice."""

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.random, self.known = space, np.random.default_rng(0), set()

    def ask(self) -> Genome:
        while (genome := self.space.decode(self.random.integers(0, self.space.upper + 1))) in self.known:
            pass
        self.known.add(genome)
        return genome

    def tell(self, record: Record) -> None:
        """Nothing is learnt."""


class _Optuna:
    """Optuna's NSGAIISampler, with the population of the others; a genome that it asks for again costs nothing."""

    def __init__(self, space: SearchSpace, settings: Params) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.names, self.trials, self.library = space, settings.search.objectives, [], optuna
        self.study = optuna.create_study(directions=["minimize"] * len(self.names), sampler=(
            optuna.samplers.NSGAIISampler(population_size=settings.search.population, seed=0)))

    def ask(self) -> Genome:
        trial = self.study.ask()
        self.trials.append(trial)
        return suggested(trial, self.space)

    def tell(self, record: Record) -> None:
        trial, values = self.trials.pop(0), measured_objectives(record, self.names)
        if values is None or record.violation is None:
            self.study.tell(trial, state=self.library.trial.TrialState.FAIL)
            return
        trial.set_constraint("clean_accuracy", record.violation)
        self.study.tell(trial, values)


def _came_to(records: list[Record], settings: Params, dataset: Path, cache: Path) -> dict[str, Any]:
    """The curve on validation, and the front record_of on the test split by the same attacks."""
    config, box = settings.search, (settings.search.ideal, settings.search.reference)
    seconds, curve, seen = 0.0, [], []
    for record in records:
        seconds += record.training_seconds or 0.0
        seen.append(record)
        if record.fidelity.full and record.parent is None:
            curve.append([round(seconds, 2), round(hypervolume(trained_from_scratch(seen), *box), 5)])
    members = front(trained_from_scratch(records), config.objectives)
    tested = [replace(member, validation=replace(member.validation, **_test(member, settings, dataset, cache)))
              for member in members]
    return {"trained": len(records), "training_seconds": round(seconds, 1), "curve": curve, "front": len(members),
            "validation": round(hypervolume(members, *box), 5), "test": round(hypervolume(tested, *box), 5),
            "members": [{"genome": member.genes, "flops": member.flops, "test": vars(other.validation),
                         "validation": [member.validation.clean_accuracy, member.validation.robust_accuracy]}
                        for member, other in zip(members, tested)],
            "optuna": optuna_version()}


def _test(member: Record, settings: Params, dataset: Path, cache: Path) -> dict[str, Any]:
    import torch

    from parapet.attacks import adapted, run_suite
    from parapet.data.dataset import Dataset
    from parapet.models import load
    from parapet.steps.attack_evaluation import suite_of

    images, labels = Dataset.open(dataset).split("test", limit=TEST_IMAGES).all()
    network = load(measure.folder_of(cache, member.training_key) / "model.safetensors")
    attack, threat = settings.attack_evaluation, settings.threat
    record, _ = run_suite(adapted(network.to(memory_format=torch.channels_last)), images, labels, norm=threat.norm,
                          eps=threat.eps, batch_size=attack.batch_size, suite=suite_of(attack),
                          generator=torch.Generator().manual_seed(0))
    return {"n": len(labels), "clean_accuracy": record["clean_accuracy"], "robust_accuracy": record["robust_accuracy"]}
