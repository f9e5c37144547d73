"""The file formats of the published data sets: IDX (MNIST), pickles (CIFAR) and Matlab files (SVHN).

Every function takes bytes whose checksum was verified. torchvision's readers take a path and open the file themselves,
so that the bytes they read need not be the bytes that were verified.
"""

from __future__ import annotations

import gzip
import io
import pickle  # nosec B403 # for _ArrayUnpickler, which calls nothing
from typing import Any

import numpy as np


def read_idx(content: bytes) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped or not, as a uint8 array of the shape in its header.

    Format: two zero bytes, type 8, number of dimensions, each size as a big-endian uint32, then the values
    (http://yann.lecun.com/exdb/mnist/). Raises ValueError for anything else. torchvision's `read_image_file` reads no
    gzipped file, which is how MNIST is published, and copies the content.
    """
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("it does not begin like an IDX file of unsigned bytes")
    shape = np.frombuffer(content, dtype=">u4", count=content[3], offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + shape.nbytes).reshape(shape)


def read_cifar(content: bytes) -> dict[str, Any]:
    """A batch of CIFAR as its authors pickled it under Python 2: a dict of lists, strings and numpy arrays.

    Raises pickle.UnpicklingError, before anything is called, for a pickle with other objects. torchvision's `CIFAR10`
    opens the file a second time after its checksum, and its unpickler calls any function that the file names.
    """
    batch: dict[str, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return batch


def read_svhn(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A Matlab file of SVHN: images uint8 (N, 3, 32, 32) and labels int64 (N,) in 0..9 (the file's 10 is digit 0).

    torchvision's `SVHN` does the same with a path.
    """
    from scipy.io import loadmat

    matrices = loadmat(io.BytesIO(content))
    labels = matrices["y"].astype(np.int64).reshape(-1)
    labels[labels == 10] = 0
    return np.ascontiguousarray(matrices["X"].transpose(3, 2, 0, 1)), labels


class _ArrayUnpickler(pickle.Unpickler):
    """Loads numpy arrays and refuses every other object, so that a pickle cannot call anything.

    A second protection besides the published checksum, because an MD5 can be forged.
    """

    def find_class(self, module: str, name: str) -> Any:
        # numpy 1 and 2 have the function that rebuilds an array in two modules; both names can be imported.
        if (module, name) not in {("numpy", "ndarray"), ("numpy", "dtype"),
                                  ("numpy.core.multiarray", "_reconstruct"),
                                  ("numpy._core.multiarray", "_reconstruct")}:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no numpy array needs")
        return super().find_class(module, name)
