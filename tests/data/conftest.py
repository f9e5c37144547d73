"""Small stand-ins for the published data sets, in their real formats and under their real names.

Only torchvision's checksums and addresses are replaced, so that the code under test verifies, downloads, unpacks and
parses exactly as it does with the originals.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from parapet.data import Source
from parapet.data.published import UNPACKED_MD5


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def real_root() -> Path:
    """The folder of the real MNIST and CIFAR-10, in torchvision's layout."""
    root = Path(os.environ.get("PARAPET_DATA") or Path(__file__).parents[3] / "shared/datasets")
    if not (root / "MNIST/raw").is_dir() or not (root / "cifar-10-batches-py").is_dir():
        pytest.skip(f"the real MNIST and CIFAR-10 are not in {root}; name their folder with PARAPET_DATA")
    return root


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch) -> tuple[Path, dict[str, np.ndarray]]:
    """A root with a MNIST of 60 + 30 images of 6x6 pixels, and its four arrays by IDX name."""
    from torchvision import datasets

    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 60), ("t10k", 30)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    root = tmp_path / "published"
    (root / "MNIST/raw").mkdir(parents=True)
    resources = []
    for name, array in arrays.items():
        packed = gzip.compress(idx(array), mtime=0)
        (root / f"MNIST/raw/{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", md5(packed)))
        monkeypatch.setitem(UNPACKED_MD5, md5(packed), md5(idx(array)))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return root, arrays


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch) -> tuple[Path, bytes, np.ndarray]:
    """A root with a CIFAR-10 of 5 x 20 + 20 images, its tar archive, and the training images (100, 3072)."""
    from torchvision import datasets

    rng = np.random.default_rng(1)
    root = tmp_path / "published"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    contents, batches = {}, []
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        batches.append(rng.integers(0, 256, (20, 3072), dtype=np.uint8))
        contents[name] = {"data": batches[-1], "labels": [position % 10 for position in range(20)]}
    contents["batches.meta"] = {"label_names": [f"class {label}" for label in range(10)]}
    digests = {}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in contents.items():
            content = pickle.dumps(content, protocol=3)
            (folder / name).write_bytes(content)
            digests[name] = md5(content)
            tar.add(folder / name, arcname=f"cifar-10-batches-py/{name}")
        stranger = tarfile.TarInfo("../stranger")
        tar.addfile(stranger, io.BytesIO(b""))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, digests[name]] for name in list(contents)[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names",
                                                   "md5": digests["batches.meta"]})
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive.getvalue()))
    return root, archive.getvalue(), np.concatenate(batches[:5])


@pytest.fixture
def make_source():
    """A function that makes a source of random images with the given labels."""
    def make(labels, test_labels=None, classes=None, levels=255, shape=(1, 4, 4), seed=0) -> Source:
        rng = np.random.default_rng(seed)
        labels = np.asarray(labels, dtype=np.int64)
        classes = classes or tuple(f"c{label}" for label in range(labels.max() + 1))
        images = rng.integers(0, levels + 1, (len(labels), *shape), dtype=np.uint8)
        if test_labels is None:
            return Source("tiny", images, labels, None, None, levels, classes)
        test_labels = np.asarray(test_labels, dtype=np.int64)
        test_images = rng.integers(0, levels + 1, (len(test_labels), *shape), dtype=np.uint8)
        return Source("tiny", images, labels, test_images, test_labels, levels, classes)
    return make
