"""Weights as safetensors with the genome as JSON metadata: nothing is pickled, and `load` needs the file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from parapet.errors import InputError
from parapet.files import replacing
from parapet.genome import Genome
from parapet.models.network import Network

SCHEMA_VERSION = 3
# Genes that files of an earlier version lack, at the value at which they have no effect.
_LACKING = {2: {"temperature": 1.0}}


def save(network: Network, path: Path) -> None:
    """Write weights, buffers and the genome; atomically."""
    metadata = {"schema_version": SCHEMA_VERSION, "genome": network.genome.to_dict(),
                "image_shape": list(network.image_shape), "classes": network.classes}
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(Path(path)) as partial:
        save_file(tensors, partial, metadata={"parapet": json.dumps(metadata)})


def read_metadata(path: Path) -> dict[str, Any]:
    """{schema_version, genome, image_shape, classes} of a weights file; InputError where there is none."""
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = json.loads((stream.metadata() or {})["parapet"])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a weights file that Parapet wrote.") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no weights file of Parapet ({error}); give a model.safetensors "
                         "that Parapet wrote.") from None
    version = metadata.get("schema_version")
    if version in _LACKING:
        return {**metadata, "genome": _LACKING[version] | metadata["genome"]}
    if version != SCHEMA_VERSION:
        raise InputError(f"{path} has schema version {version}, and this Parapet reads versions "
                         f"{', '.join(map(str, (*_LACKING, SCHEMA_VERSION)))}; use the Parapet that wrote it.")
    return metadata


def load(path: Path, device: str | torch.device = "cpu") -> Network:
    """The network of a weights file, in eval mode on `device`."""
    metadata = read_metadata(path)
    genome = Genome.from_dict(metadata["genome"], where=f"genome of {path}")
    with torch.random.fork_rng(devices=[]):
        network = Network(genome, tuple(metadata["image_shape"]), metadata["classes"])
    with safe_open(path, framework="pt") as stream:
        network.load_state_dict({name: stream.get_tensor(name) for name in stream.keys()})  # noqa: SIM118
    return network.to(device).eval()
