"""The data of a recipe: a prepared folder, or published files that are prepared first."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from parapet.config import DataPrepConfig
from parapet.data import dataset, digits, sources, splits
from parapet.data.info import read_info
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.training.recipes import NamedRecipe

DATASET = "dataset"
# The validation images of a published data set: this share of its training images, and at most this number, which is
# enough to choose the best epoch.
_VALIDATION_SHARE, _VALIDATION_IMAGES = 0.05, 3000
# The split does not depend on the run's seed, so that runs with several seeds are validated on the same images.
_SPLIT_SEED = 0


def prepare(recipe: NamedRecipe, given: Path | None, roots: Sequence[Path], out: Path) -> Path:
    """The folder of prepared data to train on.

    given: a prepared folder, or one of downloaded data in torchvision's layout; None searches `roots`, and uses the
    built-in digits for a recipe that needs them. Data that are not prepared yet are prepared in `out`/dataset. Raises
    InputError where the data are missing or damaged.
    """
    places = [given] if given is not None else list(roots)
    if given is not None and not given.is_dir():
        raise InputError(f"--data {given} is no folder; give a prepared data set (parapet data_prep makes one), or "
                         "downloaded data in torchvision's layout.")
    if ready := next((place for place in places if (place / "dataset.json").is_file() and _is_prepared(place)), None):
        return ready
    folder = out / DATASET
    if folder.exists():
        if (name := read_info(folder)["name"]) != recipe.data:
            raise InputError(f"{folder} holds {name}, and the recipe {recipe.name} needs {recipe.data}; give another "
                             "folder with --out.")
        # Compared only where --data names them: otherwise the data may have been deleted since.
        if given is not None and dataset.fingerprint_of(*_split(recipe, given, places)) != \
                read_info(folder)["fingerprint"]:
            raise InputError(f"{folder} was made from other data than {given} holds; give another folder with --out.")
        return folder
    source, indices = _split(recipe, given, places)
    recipe.threat.check_image(*source.images.shape[1:])
    dataset.write(folder, source, indices)
    return folder


def _split(recipe: NamedRecipe, given: Path | None,
           places: Sequence[Path]) -> tuple[sources.Source, dict[str, np.ndarray]]:
    """The published data, and the indices of training, validation and test."""
    source = _source(recipe, given, places)
    share = min(_VALIDATION_SHARE, _VALIDATION_IMAGES / len(source.images))
    # A data set without a published test split is small, and is split as `parapet data_prep` does it.
    config = DataPrepConfig() if source.test_labels is None else DataPrepConfig(validation_share=share)
    return source, splits.split(source, config, _SPLIT_SEED)


def _is_prepared(folder: Path) -> bool:
    # Exported digits have a dataset.json too, and it lists no splits.
    try:
        return "images" in read_json(folder / "dataset.json")
    except (ValueError, TypeError):
        return True  # damaged: opening it gives the message


def _source(recipe: NamedRecipe, given: Path | None, places: Sequence[Path]) -> sources.Source:
    if recipe.data == "digits" and given is None:
        with tempfile.TemporaryDirectory() as folder:
            digits.export(Path(folder) / "digits")
            return sources.load("digits", *places, Path(folder))
    if not places:
        raise InputError(f"the recipe {recipe.name} needs {recipe.data}, and neither --data nor PARAPET_DATA says "
                         f"where it is; run `parapet data fetch {recipe.data}` and give --data data.")
    return sources.load(recipe.data, *places)
