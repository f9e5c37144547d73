"""Checks of parameters, data and folders before any work begins."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from parapet.config import Params
from parapet.devices import resolve
from parapet.disk.replacement import check_folder
from parapet.errors import InputError, WorkError, disk_full, is_disk_full

_GIGABYTE = 1 << 30


def everything(params: Params, out: Path, roots: Sequence[Path], *, unrolled: bool = False) -> str:
    """Check everything that a run needs; returns a sentence that says what the run will do.

    `roots` are folders of data sets. `unrolled` also checks what a search unrolled into tasks does not support. Raises
    InputError and WorkError with one sentence.
    """
    from parapet.data import sources, splits
    from parapet.promotion import query
    from parapet.steps import candidates

    devices = resolve(params.device, workers=params.search.workers, threads=params.search.threads)
    if unrolled:
        candidates.refuse_rounds(params)
    query.read(params.promotion.select)
    writable(out)
    source = sources.load(params.data.name, *roots)
    params.threat.check_image(*source.images.shape[1:])
    splits.split(source, params.data_prep, params.seed)
    search(params, source.images.shape[1:], len(source.classes))
    size = (f"{params.search.generations} generations of {params.search.population}" if params.search.budget is None
            else f"{params.search.budget}, {params.search.population} a generation,")
    return (f"{params.data.name}: {len(source.images):,} images, {params.threat}; {size} on {len(devices)} "
            f"{'workers' if len(devices) > 1 else 'worker'} ({devices[0]}).")


def search(params: Params, image_shape: Sequence[int], classes: int) -> None:
    """Space, ceilings, rungs and budget, for images (C, H, W) of so many classes: the first generation must be full."""
    from parapet.search.budget import Budget
    from parapet.search.network_space import SearchSpace  # numpy, which --help does without
    from parapet.search.session import new_schedule

    config = params.search
    Budget.parse(config.budget, config.population, config.generations)
    if SearchSpace(config.space, image_shape).size == 1:
        raise InputError("every gene of search.space has one value, which leaves one genome and nothing to search; "
                         "list more choices, or train that one with `parapet train`.")
    schedule = new_schedule(params, {"image_shape": list(image_shape), "classes": range(classes)})
    found = len(schedule.evolution.ask())
    if found < config.population:
        ceilings = " below its ceilings" if config.maximum_flops or config.maximum_params else ""
        genomes = "1 genome" if found == 1 else f"{found} different genomes"
        raise InputError(f"search.space yields {genomes}{ceilings}, fewer than search.population "
                         f"({config.population}); widen the space, raise the ceilings, or lower the population.")


def writable(out: Path) -> None:
    """Raise InputError where folder `out` cannot be written, WorkError where its disk is full."""
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(error) from None
        raise InputError(f"the output folder {out} cannot be written ({error.strerror}); give another with --out, "
                         "or correct its permissions.") from None
    if shutil.disk_usage(out).free < _GIGABYTE // 4:
        raise WorkError(f"the disk of {out} has less than 250 MB free; free some space, or give another folder.")
