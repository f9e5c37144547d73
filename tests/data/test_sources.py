import gzip
import io
import os
import pickle
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from parapet.data import Source, digits, load
from parapet.data.published import UNPACKED_MD5
from parapet.data.published import md5 as md5_hash
from parapet.errors import InputError


def md5(content: bytes) -> str:
    return md5_hash(content).hexdigest()


def message(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


def test_digits(tmp_path):
    digits.export(tmp_path / "digits")
    source = load("digits", tmp_path)
    assert (source.name, source.levels, source.classes) == ("digits", 16, tuple("0123456789"))
    assert source.images.shape == (1797, 1, 8, 8)
    assert source.test_images is None and source.test_labels is None


def test_digits_that_are_not_there(tmp_path):
    assert message(load, "digits", tmp_path) == (
        f"digits is not in {tmp_path}/digits nor in {tmp_path}; run `dvc pull` or `parapet data fetch digits`.")


def test_unknown_name(tmp_path):
    assert message(load, "mnits", tmp_path).startswith("'mnits' is not a data set; did you mean mnist? Allowed: ")


@pytest.mark.parametrize("unpacked", [False, True])
def test_mnist(tiny_mnist, unpacked):
    root, arrays = tiny_mnist
    if unpacked:
        for path in (root / "MNIST/raw").glob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    source = load("mnist", root)
    np.testing.assert_array_equal(source.images[:, 0], arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(source.test_images[:, 0], arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(source.labels, arrays["train-labels-idx1-ubyte"])
    assert (source.images.shape, source.labels.dtype, source.levels) == ((60, 1, 6, 6), np.int64, 255)
    assert source.classes == tuple("0123456789")


def test_own_folder_and_several_roots(tiny_mnist, tmp_path):
    root, _ = tiny_mnist
    shutil.move(root / "MNIST", tmp_path / "home/mnist/MNIST")
    assert len(load("mnist", tmp_path / "empty", tmp_path / "home").labels) == 60


def test_missing_folder(tiny_mnist, tmp_path):
    assert message(load, "mnist", tmp_path / "no") == (
        f"mnist is not in {tmp_path}/no/mnist nor in {tmp_path}/no (MNIST/raw/train-images-idx3-ubyte.gz is not "
        "there); run `parapet data fetch mnist`, or name a folder that holds it in torchvision's layout with "
        "PARAPET_DATA.")


def test_missing_file(tiny_mnist):
    root, _ = tiny_mnist
    path = root / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    path.unlink()
    assert message(load, "mnist", root) == f"{path} is missing; run `parapet data fetch mnist`."


@pytest.mark.parametrize("unpacked", [False, True])
def test_damaged_file(tiny_mnist, unpacked):
    root, arrays = tiny_mnist
    path = root / "MNIST/raw/train-images-idx3-ubyte.gz"
    right = md5(path.read_bytes())
    if unpacked:
        path.unlink()
        path, right = path.with_suffix(""), UNPACKED_MD5[right]
    path.write_bytes(b"something else")
    assert message(load, "mnist", root) == (
        f"{path} is damaged: its md5 is {md5(b'something else')[:12]}..., and {right[:12]}... is right; "
        "delete it, then run `parapet data fetch mnist`.")


def test_cifar10(tiny_cifar):
    root, _, images = tiny_cifar
    source = load("cifar10", root)
    np.testing.assert_array_equal(source.images.reshape(100, 3072), images)
    assert source.images.shape == (100, 3, 32, 32)
    assert source.test_images.shape == (20, 3, 32, 32)
    assert source.labels[:12].tolist() == [*range(10), 0, 1]
    assert source.classes[3] == "class 3"


def test_cifar100_reads_the_fine_labels(tmp_path, monkeypatch):
    from torchvision import datasets

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images = np.zeros((100, 3072), dtype=np.uint8)
    batch = {"data": images, "fine_labels": list(range(100)), "coarse_labels": [0] * 100}
    meta = {"fine_label_names": [f"f{label}" for label in range(100)], "coarse_label_names": ["c"]}
    digests = {}
    for name, content in (("train", batch), ("test", batch), ("meta", meta)):
        (folder / name).write_bytes(pickle.dumps(content, protocol=3))
        digests[name] = md5((folder / name).read_bytes())
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names",
                                                    "md5": digests["meta"]})
    source = load("cifar100", tmp_path)
    assert source.labels.tolist() == list(range(100))
    assert source.classes[99] == "f99"


def test_no_damaged_pickle_is_opened(tiny_cifar, tmp_path):
    root, _, _ = tiny_cifar

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "called"),)

    path = root / "cifar-10-batches-py/data_batch_2"
    path.write_bytes(pickle.dumps(Attack()))
    assert message(load, "cifar10", root).startswith(f"{path} is damaged: its md5 is ")
    assert not (tmp_path / "called").exists()


def test_file_with_the_right_checksum_in_another_format(tiny_mnist, monkeypatch):
    from torchvision import datasets

    root, _ = tiny_mnist
    path = root / "MNIST/raw/train-images-idx3-ubyte.gz"
    path.write_bytes(b"new format")
    resources = [(path.name, md5(b"new format")), *datasets.MNIST.resources[1:]]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    assert message(load, "mnist", root) == (
        f"{path} has the right checksum and cannot be parsed (it does not begin like an IDX file of unsigned bytes); "
        "its format is not the one that Parapet reads.")


def test_svhn(tmp_path, monkeypatch):
    from torchvision import datasets

    splits = {}
    for split, count in (("train", 20), ("test", 10)):
        content = io.BytesIO()
        savemat(content, {"X": np.full((32, 32, 3, count), 7, dtype=np.uint8),
                          "y": (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]})
        (tmp_path / f"{split}_32x32.mat").write_bytes(content.getvalue())
        splits[split] = ["http://localhost/", f"{split}_32x32.mat", md5(content.getvalue())]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    source = load("svhn", tmp_path)
    assert source.images.shape == (20, 3, 32, 32)
    assert source.test_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_source_that_contradicts_itself():
    images, labels = np.zeros((2, 1, 4, 4), dtype=np.uint8), np.array([0, 1])
    two = ("a", "b")
    assert message(Source, "x", images[:, 0], labels, None, None, 255, two) == (
        "x has images of type uint8 and shape (2, 4, 4); they must be uint8 of shape (N, C, H, W) with N at least 1.")
    assert message(Source, "x", images, labels[:1], None, None, 255, two) == (
        "x has labels of type int64 and shape (1,); they must be int64, one for each of the 2 images.")
    assert message(Source, "x", images, labels, None, None, 255, ("a",)) == (
        "x has labels from 0 to 1; its 1 classes allow 0 to 0.")
    assert message(Source, "x", images + np.uint8(17), labels, None, None, 16, two) == (
        "x has a pixel of 17; its pixels must lie in 0..16.")
    assert "give both, or neither" in message(Source, "x", images, labels, images, None, 255, two)
    assert "all images must have one shape" in message(Source, "x", images, labels, images[:, :, 1:], labels, 255, two)


def test_the_real_mnist(real_root):
    source = load("mnist", real_root)
    assert (source.images.shape, source.test_images.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert source.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert source.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert source.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert source.images.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_the_real_cifar10(real_root):
    source = load("cifar10", real_root)
    assert (source.images.shape, source.test_images.shape) == ((50000, 3, 32, 32), (10000, 3, 32, 32))
    assert source.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert source.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert np.bincount(source.test_labels).tolist() == [1000] * 10
    assert source.images.mean(axis=(0, 2, 3)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)
