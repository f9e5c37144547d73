"""Tensors and a few numbers in one safetensors file that carries the SHA-256 of both, so that damage is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from parapet.files import replacing
from parapet.sealed import Damaged
from parapet.tensor_files import DamagedTensors, opened

_ABOUT, _SHA256 = "parapet", "sha256"


def save(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON object `about`, atomically."""
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(dict(about))
    with replacing(path) as partial:
        save_file(kept, partial, metadata={_ABOUT: text, _SHA256: digest(kept, text)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, about) of a file that `save` wrote. Raises FileNotFoundError, and Damaged for any other file."""
    try:
        with opened(path) as stream:
            if not {_ABOUT, _SHA256} <= stream.metadata.keys():
                raise Damaged("it has no checksum")
            text, expected = stream.metadata[_ABOUT], stream.metadata[_SHA256]
            tensors = {name: stream.tensor(name) for name in stream.forms}
    except DamagedTensors as error:
        raise Damaged(f"it is no safetensors file: {error}") from None
    if digest(tensors, text) != expected:
        raise Damaged("its checksum does not fit")
    return tensors, json.loads(text)


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 (hex) of the names, kinds, shapes and values of tensors on the CPU, and of a text."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
