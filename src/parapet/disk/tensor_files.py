"""Reading safetensors files: the header is compared with the expected tensors before any tensor is read.

safetensors verifies the sizes in the header (offsets are contiguous and end at the end of the file), so a damaged
header cannot describe more data than the file has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from parapet.disk.files import is_endless
from parapet.disk.plain_json import NotPlain, loads
from parapet.errors import InputError, is_of_the_machine
from parapet.quoting import listed, name, words

# A checkpoint's header is the largest, because it holds the curves of every epoch; it is far smaller than this.
_LONGEST_HEADER = 16 * 2**20
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
           "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
           "BOOL": torch.bool}
# A tensor's dtype (None for one that is not in `_DTYPES`) and its shape.
Form = tuple[torch.dtype | None, tuple[int, ...]]


class DamagedTensors(InputError, ValueError):
    """A file is not a safetensors file, or holds other tensors than expected; the message gives the reason."""


class TensorFile:
    """An open safetensors file. metadata: text by name. forms: dtype and shape of every tensor by name."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.metadata: dict[str, str] = stream.metadata() or {}
        parts = {key: stream.get_slice(key) for key in stream.keys()}  # noqa: SIM118
        self.forms: dict[str, Form] = {key: (_DTYPES.get(part.get_dtype()), tuple(part.get_shape()))
                                       for key, part in parts.items()}

    def json(self, key: str) -> dict[str, Any]:
        """The JSON object in the metadata entry `key`. Raises DamagedTensors where there is none."""
        if key not in self.metadata:
            raise DamagedTensors(f"its metadata have no entry {key}")
        try:
            value = loads(self.metadata[key])
        except NotPlain as error:
            raise DamagedTensors(f"the entry {key} of its metadata cannot be read: {error}") from None
        if not isinstance(value, dict):
            raise DamagedTensors(f"the entry {key} of its metadata is no JSON object")
        return value

    def tensor(self, key: str, count: int | None = None) -> Tensor:
        """A tensor, or its first `count` rows, on the CPU. Raises DamagedTensors where there is no tensor `key`."""
        if key not in self.forms:
            raise DamagedTensors(f"it has no tensor {name(key)}")
        rows: Tensor = self._stream.get_tensor(key) if count is None else self._stream.get_slice(key)[:count]
        return rows

    def check(self, wanted: Mapping[str, Form]) -> None:
        """Raise DamagedTensors, with the first difference, unless the file holds exactly the tensors `wanted`."""
        if missing := [key for key in wanted if key not in self.forms]:
            raise DamagedTensors(f"it lacks {_some(missing)}")
        if odd := [key for key in self.forms if key not in wanted]:
            raise DamagedTensors(f"it holds {_some(odd)} too")
        for key, (dtype, shape) in wanted.items():
            if self.forms[key] != (dtype, shape):
                found, there = self.forms[key]
                raise DamagedTensors(f"{name(key)} is {_form(found, there)}, and has to be {_form(dtype, shape)}")


@contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """A safetensors file, open inside the block.

    Raises FileNotFoundError where there is no file, OSError for an error of the machine, and DamagedTensors where it is
    not a valid safetensors file, also where this is found inside the block.
    """
    try:
        if is_endless(path):
            raise DamagedTensors("it is a pipe or a device")
        with path.open("rb") as start:
            length = int.from_bytes(start.read(8), "little")
        if length > _LONGEST_HEADER:
            raise DamagedTensors(f"its header has {length:,} bytes, and at most {_LONGEST_HEADER:,} are read")
        with safe_open(path, framework="pt", device="cpu") as stream:
            yield TensorFile(stream)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise DamagedTensors(words(getattr(error, "strerror", None) or error)) from None


def forms(tensors: Mapping[str, Tensor]) -> dict[str, Form]:
    """The dtype and shape of each of `tensors`, by name."""
    return {key: (value.dtype, tuple(value.shape)) for key, value in tensors.items()}


def refuse_not_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise DamagedTensors, with the name of the first such tensor, where a tensor holds NaN or infinity."""
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DamagedTensors(f"{name(key)} holds NaN or infinity")


def _some(keys: list[str]) -> str:
    return f"{len(keys)} tensors such as {name(keys[0])}" if len(keys) > 3 else listed(keys)


def _form(dtype: torch.dtype | None, shape: tuple[int, ...]) -> str:
    kind = "of an unknown kind" if dtype is None else str(dtype).removeprefix("torch.")
    return f"{kind} of shape {listed(map(str, shape)).replace(', ', 'x') or 'one number'}"
