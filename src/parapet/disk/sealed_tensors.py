"""Tensors and a JSON object in one safetensors file that contains the SHA-256 of both, so that damage is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from parapet.disk.files import replacing
from parapet.disk.sealed import Damaged
from parapet.disk.tensor_files import DamagedTensors, opened

# Only one metadata entry: safetensors writes several entries in an order that differs between files.
_ENTRY = "parapet"


def save(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON object `about` to the file `path`, atomically."""
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(dict(about))
    with replacing(path) as partial:
        save_file(kept, partial, metadata={_ENTRY: json.dumps({"about": text, "sha256": digest(kept, text)})})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, about) of a file that `save` wrote. Raises FileNotFoundError, and Damaged for any other file."""
    try:
        with opened(path) as stream:
            text, expected = _entry(stream.metadata)
            tensors = {name: stream.tensor(name) for name in stream.forms}
    except DamagedTensors as error:
        raise Damaged(f"it is no safetensors file: {error}") from None
    try:
        same = digest(tensors, text) == expected
    except UnicodeEncodeError:  # a lone surrogate, which is possible in JSON but never written by `save`
        same = False
    if not same:
        raise Damaged("its checksum does not fit")
    return tensors, json.loads(text)


def _entry(metadata: Mapping[str, str]) -> tuple[str, str]:
    """(`about` as text, checksum) from the file's metadata. Raises Damaged where they are missing."""
    try:
        found = json.loads(metadata[_ENTRY])
        text, expected = found["about"], found["sha256"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise Damaged("it has no checksum") from None
    if type(text) is not str:
        raise Damaged("it has no checksum")
    return text, expected


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 (hex) of the names, dtypes, shapes and values of tensors on the CPU, and of a text."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
