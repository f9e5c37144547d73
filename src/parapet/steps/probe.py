"""The clock behind a forecast: what single steps of one family of networks take on this machine."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from parapet.config import Params, parse
from parapet.genome import Genome
from parapet.search.parents import ARCHITECTURE
from parapet.store import results

# Steps that are timed of each network, and seconds after which no further genome of the sample is.
_STEPS, _SECONDS = 3, 4.0
# Nothing gives way in such a ball: every attack meets every image, which is the most that it can cost.
_TINY_EPS = 1e-6


def run(*, anchors: list[dict[str, Any]], sample: list[dict[str, Any]], exported: bool, params: dict[str, Any],
        dataset: str, device: str, progress: results.Report = results.ignore) -> dict[str, Any]:
    """Time training steps of the genomes `anchors`, and of as many of `sample` as there is time for; the rest is
    counted alone.

    Everything is JSON, because it comes from another process. Returns {anchors, sample, suite, audit}: lists of
    {genome, flops, seconds}, with null for what was not timed; seconds of the search's suite on an image, and of its
    audit, both of the first anchor. With `exported` also {export, start}: seconds of its export with latency, and how
    many more the first export of a process takes. A genome that has no network for the images is left out.
    """
    import torch

    from parapet.search import ceilings

    progress("begun", 0.0)
    bench = _Bench(parse(Params, params), Path(dataset), device)
    torch.set_num_threads(bench.params.search.threads)
    shape, classes = bench.data.image_shape, len(bench.data.classes)
    found: dict[str, Any] = {"anchors": [], "sample": []}
    # Those with the same network are counted once.
    counted: dict[tuple[Any, ...], tuple[int, int] | None] = {}
    for kind, genomes in (("anchors", anchors), ("sample", sample)):
        begun = time.monotonic()
        for values in genomes:
            genome = Genome.from_dict(values)
            network = tuple(getattr(genome, name) for name in ARCHITECTURE)
            if network not in counted:
                counted[network] = ceilings.cost(genome, shape, classes)
            if (cost := counted[network]) is None:
                continue
            late = kind == "sample" and time.monotonic() - begun > _SECONDS
            found[kind].append({"genome": values, "flops": cost[0],
                                "seconds": None if late else bench.step(genome)})
    if not found["anchors"]:
        return found
    first = Genome.from_dict(found["anchors"][0]["genome"])
    return {**found, **bench.evaluation(first), **(bench.export(first) if exported else {})}


class _Bench:
    """Data and configuration of what is timed."""

    def __init__(self, params: Params, dataset: Path, device: str) -> None:
        import torch

        from parapet.data.dataset import Dataset

        self.params, self.device, self.data = params, device, Dataset.open(dataset)
        batch = params.training.batch_size
        self.training = self.data.split("train", device=device, limit=batch * (_STEPS + 1))
        self.validation = self.data.split("validation", device=device, limit=max(
            batch, params.attack_evaluation.batch_size, params.attack_evaluation.audit_images))
        self.few = self.data.split("validation", device=device, limit=min(8, len(self.validation)))
        self.setting: dict[str, Any] = {"classes": len(self.data.classes), "mean": torch.tensor(self.data.mean),
                                        "std": torch.tensor(self.data.std)}

    def step(self, genome: Genome) -> float | None:
        """Seconds of a training step, crafting and descent; None where the numbers go bad at once."""
        from parapet.training.loop import TrainingFailed
        from parapet.training.timing import time_steps

        try:
            return statistics.median(time_steps(
                genome, self.training, self.few, config=self.params.training, threat=self.params.threat,
                device=self.device, **self.setting))
        except TrainingFailed:
            return None

    def evaluation(self, genome: Genome) -> dict[str, float]:
        """Seconds of the search's suite on a batch, and of its audit."""
        import torch

        from parapet.attacks import adapted, run_audit, run_suite
        from parapet.attacks.audit import CHEAP, CHEAP_CHECKS
        from parapet.attacks.inputs import predict
        from parapet.steps.attack_evaluation import suite_of

        network, config = self._network(genome).to(self.device).to(memory_format=torch.channels_last), \
            self.params.attack_evaluation
        images, _ = self.validation.all()
        labels = torch.cat([predict(network, part) for part in images.split(config.batch_size)])
        asked: dict[str, Any] = {"norm": self.params.threat.norm, "eps": _TINY_EPS,
                                 "generator": torch.Generator().manual_seed(0)}
        suite = suite_of(config, self.params.threat.norm)
        batch, times = min(config.batch_size, len(images)), []
        for work in (lambda: run_suite(network, images[:batch], labels[:batch], suite=suite, batch_size=batch, **asked),
                     lambda: run_audit(adapted(network), images[:config.audit_images], labels[:config.audit_images],
                                       checks=CHEAP_CHECKS, limits=CHEAP, **asked)):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return {"suite": times[0] / batch, "audit": times[1]}

    def export(self, genome: Genome) -> dict[str, float]:
        """Seconds of an export with its latency, and how much longer the first one of a process takes."""
        from parapet.deployment import export, measure_latency

        network, config, times = self._network(genome), self.params.export, []
        with tempfile.TemporaryDirectory() as folder:
            for place in range(2):
                started = time.perf_counter()
                path = Path(folder) / f"{place}.onnx"
                export(network, path, opset=config.opset, metadata={})
                measure_latency(path, network.image_shape, batch=config.latency_batch, threads=config.latency_threads,
                                warmup=config.latency_warmup, runs=config.latency_runs, seconds=config.latency_seconds)
                times.append(time.perf_counter() - started)
        return {"export": times[1], "start": max(0.0, times[0] - times[1])}

    def _network(self, genome: Genome) -> Any:
        import torch

        from parapet.models import build

        return build(genome, self.data.image_shape, len(self.data.classes), mean=self.setting["mean"],
                     std=self.setting["std"], generator=torch.Generator().manual_seed(0)).eval()
