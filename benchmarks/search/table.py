"""Real trainings of every genome at every fidelity, cold, promoted, inherited and from scratch, as raw records.

Goes on where it was stopped: what stands in the table is not trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search import setting
from parapet.config import to_dict
from parapet.data.dataset import Dataset
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.processes.pool import Task, Workers
from parapet.search import parents
from parapet.search.network_space import SearchSpace
from parapet.steps import data_prep
from parapet.store.keys import candidate_seed

_BATCH = 8  # genomes whose parents come from earlier batches, as in a generation
_MEASURE = "benchmarks.search.table:measure"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of the table; a torn last line is dropped."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def fill(path: Path, work: Path, *, workers: int, say: Callable[[str], None]) -> None:
    """Train until the table at `path` is full; weights lie in the folder `work`, and are trained anew if lost."""
    dataset = work / "dataset"
    if not (dataset / "dataset.json").exists():
        data_prep.run(setting.params(), [Path("data")], dataset)
    rows = read(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {row["genome"] for row in rows}
    ordered = setting.genomes()
    order = [ordered[place] for place in np.random.default_rng(0).permutation(len(ordered))]
    with Workers(["cpu"] * workers) as pool, path.open("a") as stream:
        for start in range(0, len(order), _BATCH):
            batch = order[start:start + _BATCH]
            tasks = [Task(genome.digest()[:12], _MEASURE, {
                "genome": genome.to_dict(), "dataset": str(dataset), "work": str(work),
                "parent": _parent(genome, order[:start])}) for genome in batch if genome.digest()[:12] not in done]
            for place, outcome in pool.run(tasks):
                if outcome.result is None:
                    say(f"{tasks[place].name} failed: {outcome.reason}")
                    continue
                stream.writelines(json.dumps(row) + "\n" for row in outcome.result["rows"])
                stream.flush()
            if tasks:
                say(f"{min(start + _BATCH, len(order))} of {len(order)} genomes")


def measure(*, genome: dict[str, Any], dataset: str, work: str, parent: str | None, device: str,
            progress: Callable[[str, float], None]) -> dict[str, Any]:
    """All rows of one genome: {rows: [...]}, one each of from scratch and of the ladder, cold and inherited."""
    import torch

    torch.set_num_threads(1)
    tried, folder, ladder = Genome.from_dict(genome), Path(work), setting.ladder()
    bench = _Bench(tried, Dataset.open(Path(dataset)), folder)
    rows = [bench.row("scratch", ladder[-1], None, behind=0)]
    rows += bench.climb("cold", ladder, None)
    if parent is not None:
        weights = folder / f"{parent}-cold-{len(ladder) - 1}.safetensors"
        if not weights.exists():  # lost since its rows were written
            other = next(genome for genome in setting.genomes() if genome.digest()[:12] == parent)
            list(_Bench(other, bench.data, folder).climb("cold", ladder, None))
        rows += bench.climb("inherited", ladder, weights, parent)
    return {"rows": rows}


class _Bench:
    """Trains, attacks and notes one genome."""

    def __init__(self, genome: Genome, data: Dataset, folder: Path) -> None:
        self.genome, self.data, self.folder = genome, data, folder
        self.name, self.params = genome.digest()[:12], setting.params()

    def climb(self, kind: str, ladder: list[Fidelity], start: Path | None,
              parent: str | None = None) -> Iterator[dict[str, Any]]:
        """A row a rung, each going on from the one below."""
        behind = 0
        for fidelity in ladder:
            yield self.row(kind, fidelity, start, behind=behind, parent=parent)
            start, behind = self.folder / f"{self.name}-{kind}-{fidelity.rung}.safetensors", fidelity.epochs

    def row(self, kind: str, fidelity: Fidelity, start: Path | None, *, behind: int,
            parent: str | None = None) -> dict[str, Any]:
        """Train at `fidelity` from the weights `start`, if any, attack, and keep the weights."""

        from parapet.models import load, save
        from parapet.models.cost import count_flops, count_parameters
        from parapet.models.inheritance import inherit
        from parapet.training import TrainingFailed, TrainingRun, train

        training, threat = self.params.training, self.params.threat
        config = fidelity.config(training, behind=behind, started=start is not None)
        limit = fidelity.images(self.data.images["train"], config.batch_size)
        result = {"genome": self.name, "kind": kind, "rung": fidelity.rung, "epochs": config.epochs, "parent": parent}
        began, wall = time.process_time(), time.time()
        try:
            trained = train(TrainingRun.of(
                fidelity.recipe(self.genome), self.data, images=limit, config=config, threat=threat,
                seed=candidate_seed(self.params.seed, self.genome) + fidelity.rung,
                initialise=None if start is None else lambda network: inherit(network, load(start))))
        except TrainingFailed as error:
            return result | {"failed": str(error), "cpu_seconds": round(time.process_time() - began, 3)}
        network = trained.network
        network.genome = self.genome
        save(network, self.folder / f"{self.name}-{kind}-{fidelity.rung}.safetensors")
        result |= {"cpu_seconds": round(time.process_time() - began, 3), "seconds": round(time.time() - wall, 3),
                   "training_flops": trained.training_flops, "flops": count_flops(network, network.image_shape),
                   "params": count_parameters(network)}
        began = time.process_time()
        result["validation"] = self._attack(network, "validation")
        result["evaluation_seconds"] = round(time.process_time() - began, 3)
        if fidelity.full:
            result["test"] = self._attack(network, "test")
        return result

    def _attack(self, network: Any, split: str) -> list[float]:
        """Clean and robust accuracy under the search's own suite, and the number of images."""
        import torch

        from parapet.attacks import run_suite
        from parapet.steps.attack_evaluation import suite_of

        images, labels = self.data.split(split).all()
        config, threat = self.params.attack_evaluation, self.params.threat
        record, _ = run_suite(network.to(memory_format=torch.channels_last), images, labels, norm=threat.norm,
                              eps=threat.eps, batch_size=config.batch_size,
                              suite=suite_of(config),
                              generator=torch.Generator().manual_seed(self.params.seed))
        return [round(record["clean_accuracy"], 5), round(record["robust_accuracy"], 5), len(labels)]


def _parent(genome: Genome, earlier: list[Genome]) -> str | None:
    """The nearest of the genomes of earlier batches, by the search's own rule, or None."""
    space = SearchSpace(setting.SPACE, setting.IMAGE_SHAPE)
    near = [(parents.distance(space, genome, other), other.digest()[:12]) for other in earlier
            if parents.inheritable(genome, other)]
    return min(near)[1] if near else None


def description() -> dict[str, Any]:
    """What the rows mean, for the file beside them."""
    return {"params": to_dict(setting.params()), "genomes": {genome.digest()[:12]: genome.to_dict()
                                                             for genome in setting.genomes()}}
