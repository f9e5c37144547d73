"""data_prep: verify the data set, split it, record its fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.data import dataset, sources, splits
from parapet.data.info import read_info

SECTIONS = ("seed", "data", "threat", "data_prep")


def run(params: Params, roots: Sequence[Path], out: Path) -> dict[str, Any]:
    """Prepare `params.data.name` from the first of the folders `roots` that holds it into the folder `out`.

    Returns the number of images in each split and the fingerprint. Raises InputError where files are missing or
    damaged, or where a class is missing from a split.
    """
    source = sources.load(params.data.name, *roots)
    params.threat.check_image(*source.images.shape[1:])
    indices = splits.split(source, params.data_prep, params.seed)
    dataset.write(out, source, indices)
    info = read_info(out)
    return {**{f"{name}_images": count for name, count in info["images"].items()}, "fingerprint": info["fingerprint"]}
