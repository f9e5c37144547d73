"""Arrays from an untrusted .npz file: the size in each member's header is compared with its content before reading.

numpy.load allocates whatever size the header of a member gives, and unpacks whatever the zip file contains.
"""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from parapet.disk import quota
from parapet.errors import is_of_the_machine
from parapet.quoting import LONGEST, listed, words

# No real images compress more than this (a protection against zip bombs); smaller members are always read.
_HIGHEST_RATIO, _NOTICED = 300, 2**26
_MOST_DIMENSIONS = 4
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What zipfile, the decompressors and numpy raise for damaged bytes.
_DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, SyntaxError, TokenError,
            RuntimeError, OverflowError, BadZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError)


class BadArrays(ValueError):
    """A file is not an .npz, or does not hold the requested arrays; the message gives the reason in a few words."""


def read(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """The arrays `names` of an .npz file: real numbers in one to four dimensions.

    Nothing is unpickled. Raises BadArrays where one is missing, is of another kind, has another size than its header
    says, or would not fit into memory as 32-bit numbers; OSError where the file may not be read.
    """
    try:
        with ZipFile(path) as archive:
            members = [info.filename for info in archive.infolist()]
            missing = [name for name in names if f"{name}.npy" not in members]
            if missing:
                there = listed(member.removesuffix(".npy") for member in members)
                raise BadArrays(f"it has no {' and no '.join(missing)} but {there or 'nothing'}")
            if double := next((name for name in names if members.count(f"{name}.npy") > 1), None):
                raise BadArrays(f"it has {double} twice")
            return [_member(archive, archive.getinfo(f"{name}.npy"), name) for name in names]
    except BadArrays:
        raise
    except MemoryError:
        raise BadArrays("it does not fit into memory") from None
    except _DAMAGED as error:
        if is_of_the_machine(error):
            raise
        raise BadArrays(words(getattr(error, "strerror", None) or error) or type(error).__name__) from None


def _member(archive: ZipFile, info: ZipInfo, name: str) -> np.ndarray:
    with archive.open(info) as stream:
        shape, dtype = _header(stream, name)
        size, there = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
    if size != there:
        raise BadArrays(f"the header of {name} says {size:,} bytes, and {there:,} follow")
    if info.file_size > max(_NOTICED, _HIGHEST_RATIO * info.compress_size):
        raise BadArrays(f"{name} unpacks from {info.compress_size:,} bytes to {info.file_size:,}, which no images do")
    if (needed := size + 4 * math.prod(shape)) > (free := _free()):
        raise BadArrays(f"{name} needs {needed / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} are free")
    with archive.open(info) as stream:
        found = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # at the end of the member zipfile compares the checksum
            raise BadArrays(f"{name} is longer than its header says")
    return found


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise BadArrays(f"{name} has version {version[0]}.{version[1]} of the format, and 1.0 and 2.0 are read")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadArrays(f"{name} holds {str(dtype)[:LONGEST]}, and has to hold real numbers")
    if not 0 < len(shape) <= _MOST_DIMENSIONS or not all(type(side) is int and side >= 0 for side in shape):
        raise BadArrays(f"{name} has {len(shape)} dimensions of the sizes {listed(map(str, shape))}")
    if len(shape) > 1 and not math.prod(shape[1:]):
        raise BadArrays(f"{name} has shape {shape}, with a side of 0")
    return shape, dtype


def _free() -> int:
    import psutil

    machine: int = psutil.virtual_memory().available
    own = quota.memory_left()
    return machine if own is None else min(machine, own)
