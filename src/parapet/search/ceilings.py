"""Upper limits on a network's cost, checked before training: FLOPs and parameters are counted, latency is timed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parapet.catalogue import plugins
from parapet.config import Params, SearchConfig, to_dict
from parapet.cores import Cores, FreeCores
from parapet.disk import sealed
from parapet.disk.files import digest, scratch_folder
from parapet.errors import InputError, is_of_the_machine
from parapet.genome import Genome
from parapet.search.parents import ARCHITECTURE

# The field that names the architecture, images and export of a measured latency; it equals the stem of its file.
_OWNER = "of"


def admissible(search: SearchConfig, image_shape: Sequence[int], classes: int) -> Callable[[Genome], bool] | None:
    """A test whether a genome's network is within search.maximum_flops and maximum_params; None where neither is given.

    A genome whose network cannot be built for these images is admissible: it becomes an infeasible result with a
    reason.
    """
    if search.maximum_flops is None and search.maximum_params is None:
        return None
    count = functools.lru_cache(maxsize=100_000)(lambda genome: cost(genome, image_shape, classes))

    def allowed(genome: Genome) -> bool:
        found = count(_architecture(genome))
        return found is None or (found[0] <= (search.maximum_flops or found[0])
                                 and found[1] <= (search.maximum_params or found[1]))
    return allowed


def cost(genome: Genome, image_shape: Sequence[int], classes: int) -> tuple[int, int] | None:
    """(FLOPs per image, parameters) of the genome's network; None where it cannot be built for such images."""
    # Imported here because a search without ceilings does not need torch at this point.
    from parapet.models.cost import count_flops, count_parameters
    from parapet.models.network import outline

    channels, height, width = image_shape
    try:
        network = outline(genome, (channels, height, width), classes)
    except InputError:
        return None
    return count_flops(network, network.image_shape), count_parameters(network)


def too_slow(params: Params, genome: Genome, info: dict[str, Any], folder: Path,
             cores: Cores | FreeCores) -> str | None:
    """The reason not to train a network whose untrained graph is slower than search.maximum_latency_ms, else None.

    The latency does not depend on the weights. Measured latencies are kept in `folder`, one file per architecture.
    Also None where there is no limit, and where the network cannot be built or exported: training reports that.
    """
    ceiling = params.search.maximum_latency_ms
    if ceiling is None:
        return None
    architecture = _architecture(genome)
    of = [architecture.to_dict(), info["image_shape"], to_dict(params.export)]
    if code := plugins.sources(architecture.declarations()):
        of.append(code)
    path = folder / f"{digest(of)[:32]}.json"
    if (known := _known(path)) is None:
        path.unlink(missing_ok=True)  # an existing file is damaged here
        _time(params, architecture, info, path, cores)
        known = _known(path)
    if known is None:
        return None
    found = known["p50"]
    return None if found <= ceiling else (f"latency {found:.3g} ms is above search.maximum_latency_ms {ceiling:g}; "
                                          "not trained")

def _known(path: Path) -> dict[str, Any] | None:
    """The latency file at `path`; None where it is missing, damaged, or written for another architecture."""
    try:
        found = sealed.look(path)
        sealed.check_fields(found, {"p50": float})
    except (FileNotFoundError, sealed.Damaged):
        return None
    return found if found.get(_OWNER) == path.stem else None

def _time(params: Params, genome: Genome, info: dict[str, Any], path: Path,
          cores: Cores | FreeCores) -> None:
    """Write the latency to `path`; write nothing where the network cannot be built or exported."""
    import torch

    from parapet.deployment import export, measure_latency
    from parapet.models import build

    shape, config = tuple(info["image_shape"]), params.export
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another worker may time the same architecture now: each worker has its own graph file, and the first latency that
    # is written is kept.
    with scratch_folder(path) as folder:
        graph = folder / "graph.onnx"
        try:
            with cores.shared():
                network = build(genome, shape, len(info["classes"]), generator=torch.Generator().manual_seed(0)).eval()
                export(network, graph, opset=config.opset, metadata={})
        except (InputError, RuntimeError) as error:
            if is_of_the_machine(error):
                raise
            return
        with cores.exclusive():
            if not path.exists():
                sealed.write(path, {_OWNER: path.stem, **measure_latency(
                    graph, shape, batch=config.latency_batch, threads=config.latency_threads,
                    warmup=config.latency_warmup, runs=config.latency_runs, seconds=config.latency_seconds)})

def _architecture(genome: Genome) -> Genome:
    """The genome with the default recipe, so that genomes of the same network are equal."""
    return replace(Genome(), **{name: getattr(genome, name) for name in ARCHITECTURE}, others=genome.others).canonical()
