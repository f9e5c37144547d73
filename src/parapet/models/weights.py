"""Weights as safetensors with the genome as JSON metadata: nothing is pickled, and `load` needs only the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from parapet.disk.files import replacing
from parapet.disk.tensor_files import DamagedTensors, TensorFile, forms, opened, refuse_not_finite
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.network import Network, outline
from parapet.quoting import quote

SCHEMA_VERSION = 3
# Genes that files of an earlier version lack, with the value at which they have no effect.
_LACKING = {2: {"temperature": 1.0}}
# Largest allowed channels, height and width, and number of classes; a file with more is damaged.
_LARGEST_IMAGE, _MOST_CLASSES = (1024, 8192, 8192), 1_000_000


def save(network: Network, path: Path) -> None:
    """Write weights, buffers and the genome, atomically."""
    metadata = {"schema_version": SCHEMA_VERSION, "genome": network.genome.to_dict(),
                "image_shape": list(network.image_shape), "classes": network.classes}
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(Path(path)) as partial:
        save_file(tensors, partial, metadata={"parapet": json.dumps(metadata)})


def read_metadata(path: Path) -> dict[str, Any]:
    """{schema_version, genome, image_shape, classes} of a weights file, with types and ranges checked.

    The genome is a dict of all its genes. Raises InputError where the file is missing or is no weights file.
    """
    with _reading(path) as stored:
        return _metadata(stored, path)


def load(path: Path, device: str | torch.device = "cpu") -> Network:
    """The network of a weights file, in eval mode on `device`.

    The shapes of the network in the metadata are compared with the tensors of the file before any memory is reserved,
    so that a damaged file cannot make it reserve more than its own size. Raises InputError where they differ, or where
    a tensor holds NaN or infinity.
    """
    with _reading(path) as stored:
        metadata = _metadata(stored, path)
        genome = Genome.from_dict(metadata["genome"], where=f"genome of {path}")
        promised = genome, tuple(metadata["image_shape"]), metadata["classes"]
        stored.check(forms(outline(*promised).state_dict()))
        tensors = {name: stored.tensor(name) for name in stored.forms}
        refuse_not_finite(tensors)
    with torch.random.fork_rng(devices=[]):
        network = Network(*promised)
    network.load_state_dict(tensors)
    return network.to(device).eval()


@contextmanager
def _reading(path: Path) -> Iterator[TensorFile]:
    try:
        with opened(path) as stored:
            yield stored
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a weights file that Parapet wrote.") from None
    except DamagedTensors as error:
        raise InputError(f"{path} is no weights file of Parapet ({error}); give a model.safetensors "
                         "that Parapet wrote.") from None


def _metadata(stored: TensorFile, path: Path) -> dict[str, Any]:
    metadata = stored.json("parapet")
    version = metadata.get("schema_version")
    if type(version) is not int or version not in (*_LACKING, SCHEMA_VERSION):
        raise InputError(f"{path} has schema version {quote(version)}, and this Parapet reads versions "
                         f"{', '.join(map(str, (*_LACKING, SCHEMA_VERSION)))}; use the Parapet that wrote it.")
    genome, shape, classes = (metadata.get(name) for name in ("genome", "image_shape", "classes"))
    if not isinstance(genome, dict):
        raise DamagedTensors(f"its genome is {quote(genome)}")
    if not isinstance(shape, list) or len(shape) != 3 or not all(
            type(size) is int and 0 < size <= largest for size, largest in zip(shape, _LARGEST_IMAGE)):
        raise DamagedTensors(f"its image_shape is {quote(shape)}")
    if type(classes) is not int or not 0 < classes <= _MOST_CLASSES:
        raise DamagedTensors(f"its classes are {quote(classes)}")
    return {**metadata, "genome": _LACKING.get(version, {}) | genome}
