"""data_prep: verifies the data set, splits it, and records its fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.data import dataset, sources, splits
from parapet.data.info import read_info

SECTIONS = ("seed", "data", "threat", "data_prep")


def run(params: Params, roots: Sequence[Path], out: Path) -> dict[str, Any]:
    """Prepare the data set `params.data.name` in `out`, from the first of the folders `roots` that holds it.

    Returns the number of images in each split and the fingerprint. Raises InputError where files are missing or
    damaged, or where a class is missing from a split.
    """
    source = sources.load(params.data.name, *roots)
    params.threat.check_image(*source.images.shape[1:])
    indices = splits.split(source, params.data_prep, params.seed)
    dataset.write(out, source, indices)
    info = read_info(out)
    return {**{f"{name}_images": count for name, count in info["images"].items()}, "fingerprint": info["fingerprint"]}
