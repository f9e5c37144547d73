"""How many candidates an hour a card gets done when several share it, against one at a time: one family after another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from parapet.config import Params
from parapet.cores import cpu_count
from parapet.data.info import read_info
from parapet.search.network_space import SearchSpace
from parapet.search.reference_genomes import reference_genomes
from parapet.search.sharing import STEPS, processes, steps_per_second


def compare(params: Params, dataset: Path, device: str, say: Callable[[str], None], *, most: int | None = None,
            steps: int = STEPS) -> dict[str, tuple[int, float]]:
    """Say, and return by backbone, with how many processes training goes fastest and how many times as fast.

    The middle network of each family is trained. Candidates an hour count training alone, at params.yaml's epochs.
    """
    info = read_info(dataset)
    space = SearchSpace(params.search.space, info["image_shape"])
    whole = params.training.epochs * max(1, info["images"]["train"] // params.training.batch_size)
    if not device.startswith("cuda"):
        say("not run on a GPU: these are processes that share the CPU")
    found = {}
    for backbone in space.choices("backbone"):
        genome, rates = reference_genomes(space, backbone)[0], {}

        def throughput(count: int, genome=genome, rates=rates) -> float:
            rates[count] = steps_per_second(params, genome, dataset, device, count, steps=steps)
            say(f"  {count} at once: {rates[count]:.1f} steps a second" if rates[count] else
                f"  {count} at once do not fit")
            return rates[count]

        say(f"{genome} on {device}")
        best = processes(throughput, most or cpu_count())
        gain = rates[best] / rates[1] if rates[1] else 0.0
        say(f"{backbone}: {3600 * rates[best] / whole:,.0f} candidates an hour with {best} at once, "
            f"{3600 * rates[1] / whole:,.0f} one at a time ({gain:.2f} times as many)")
        found[backbone] = best, gain
    return found
