"""The three formats in which the published data sets come: IDX, the pickles of CIFAR, and Matlab files of SVHN.

Every function takes bytes whose checksum already holds.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle  # nosec B403 # for _ArrayUnpickler, which calls nothing
from typing import Any

import numpy as np


def read_idx(content: bytes) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped or not, as a uint8 array of the shape that its header names.

    Format: two zero bytes, type 8, number of dimensions, each size as a big-endian uint32, then the values
    (http://yann.lecun.com/exdb/mnist/). Raises ValueError where header and length disagree.
    """
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("it does not begin like an IDX file of unsigned bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError("its IDX header is cut short")
    shape = tuple(np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).tolist())
    if len(content) - start != math.prod(shape):
        raise ValueError(f"its header promises {math.prod(shape)} values and it holds {len(content) - start}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_cifar(content: bytes) -> dict[str, Any]:
    """A batch of CIFAR as its authors pickled it under Python 2: a dict of lists, strings and numpy arrays.

    Raises pickle.UnpicklingError for anything else, before it is called.
    """
    batch: dict[str, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return batch


def read_svhn(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A Matlab file of SVHN: images uint8 (N, 3, 32, 32) and labels int64 (N,) in 0..9 (the file's 10 is digit 0)."""
    from scipy.io import loadmat

    matrices = loadmat(io.BytesIO(content))
    labels = matrices["y"].astype(np.int64).reshape(-1)
    labels[labels == 10] = 0
    return np.ascontiguousarray(matrices["X"].transpose(3, 2, 0, 1)), labels


class _ArrayUnpickler(pickle.Unpickler):
    """Knows numpy arrays and nothing else, so that no pickle can call anything.

    A second fence: the files have passed their published checksum, but an MD5 can be forged with effort.
    """

    def find_class(self, module: str, name: str) -> Any:
        # The function that rebuilds an array is private and has moved between numpy 1 and 2; ask an array for it.
        rebuild = np.empty(0).__reduce__()[0]
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype,
                   ("numpy.core.multiarray", "_reconstruct"): rebuild,
                   ("numpy._core.multiarray", "_reconstruct"): rebuild}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no numpy array needs")
        return allowed[module, name]
