"""How many processes should share one GPU, found by timing training steps in several processes at once.

One small network does not use a GPU fully. More processes raise the throughput until they slow each other down.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from parapet.config import Params, to_dict
from parapet.cores import cpu_count
from parapet.data.info import check_files, read_info
from parapet.disk import sealed
from parapet.disk.files import digest
from parapet.genome import Genome
from parapet.processes.pool import Task, Workers
from parapet.search.network_space import SearchSpace
from parapet.search.reference_genomes import reference_genomes

_STEPS = "parapet.search.sharing:timed_steps"
# The smallest relative gain in throughput that justifies more workers: a smaller one may be noise, and each worker
# needs memory and time to start.
GAIN = 0.15
# Timed steps in each process: about a second on a GPU.
STEPS = 20
# The share of a GPU's memory that may be used; the rest is for candidates larger than the one that is timed.
_MEMORY_SHARE = 0.8
_WAIT_SECONDS, _LOOK_EVERY = 120.0, 0.01
_MOST = 16


def processes(throughput: Callable[[int], float], most: int) -> int:
    """How many processes to run in parallel, from 1 to `most`.

    `throughput` returns the total steps per second of so many processes, 0 where they do not fit. The number is doubled
    while the relative gain is at least `GAIN`; then the middle between the last two numbers is tried.
    """
    best, rate = 1, throughput(1)
    while rate > 0 and best < most:
        count = min(2 * best, most)
        more = throughput(count)
        if more < (1 + GAIN) * rate:
            between = (best + count) // 2
            return between if between > best and throughput(between) >= (1 + GAIN) * rate else best
        best, rate = count, more
    return best


def per_card(params: Params, dataset: Path, device: str, kept: Path) -> int:
    """How many workers should share the GPU `device` in this search, timed with the middle network of its first family.

    The result is stored in the file `kept`, so that a resumed search does not time again.
    """
    info = read_info(dataset)
    check_files(dataset, info)
    space = SearchSpace(params.search.space, info["image_shape"])
    genome = reference_genomes(space, space.choices("backbone")[0])[0]
    key = digest([genome.to_dict(), to_dict(params.training), info["fingerprint"], params.search.threads, device])
    try:
        known = sealed.look(kept)
    except (FileNotFoundError, sealed.Damaged):
        known = {}
    if not isinstance(known.get(key), int):
        # Each process needs its own CPU cores to keep the GPU busy.
        most = min(_MOST, max(1, cpu_count() // params.search.threads))
        known[key] = processes(lambda count: steps_per_second(params, genome, dataset, device, count), most)
        sealed.write(kept, known)
    count: int = known[key]
    return count


def steps_per_second(params: Params, genome: Genome, dataset: Path, device: str, count: int, *,
                     steps: int = STEPS) -> float:
    """The total training steps per second of `genome` in `count` processes on `device`.

    0 where a process fails, for example because memory runs out, or where they almost fill the GPU's memory.
    """
    with tempfile.TemporaryDirectory() as folder, Workers([device] * count, attempts=1) as workers:
        tasks = [Task(str(place), _STEPS, {"genome": genome.to_dict(), "params": to_dict(params), "steps": steps,
                                           "dataset": str(dataset), "gate": folder, "count": count})
                 for place in range(count)]
        found = [result.result for _, result in workers.run(tasks)]
    whole = [result for result in found if result is not None and not result["crowded"]]
    if len(whole) < len(found):
        return 0.0
    rate: float = sum(result["steps"] / result["seconds"] for result in whole)
    return rate


def timed_steps(*, genome: dict[str, Any], params: dict[str, Any], steps: int, dataset: str, gate: str, count: int,
                device: str, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """{steps, seconds, crowded}: the time of the training steps, and whether the GPU's memory was almost full.

    The steps start when all `count` processes have created their file in the folder `gate`, or after a time limit. All
    arguments are JSON values, because they come from another process.
    """
    import torch

    from parapet.config import parse
    from parapet.data.dataset import Dataset
    from parapet.training.run import TrainingRun
    from parapet.training.timing import time_steps

    settings, data = parse(Params, params), Dataset.open(Path(dataset))
    torch.set_num_threads(settings.search.threads)
    batch, crowded, here = settings.training.batch_size, [], Path(gate) / str(os.getpid())

    def begin() -> None:
        here.touch()
        end = time.monotonic() + _WAIT_SECONDS
        while sum(1 for _ in Path(gate).iterdir()) < count and time.monotonic() < end:
            time.sleep(_LOOK_EVERY)
        crowded.append(_is_crowded(device))

    try:
        config = replace(settings.training, validation_images=batch)
        seconds = time_steps(TrainingRun.of(Genome.from_dict(genome), data, config=config, threat=settings.threat,
                                            seed=0, device=device, images=(steps + 1) * batch), begin)
    finally:
        here.touch()  # the other processes must not wait for one that has failed
    return {"steps": len(seconds), "seconds": math.fsum(seconds), "crowded": any(crowded)}


def _is_crowded(device: str) -> bool:
    import torch

    if torch.device(device).type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    return free < (1 - _MEMORY_SHARE) * total
