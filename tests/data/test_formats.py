import gzip
import io
import os
import pickle

import numpy as np
import pytest
from scipy.io import savemat

from parapet.data.formats import read_cifar, read_idx, read_svhn


def test_idx_of_known_bytes():
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    expected = np.array([[1, 2, 3], [4, 5, 255]], dtype=np.uint8)
    for form in (content, gzip.compress(content)):
        found = read_idx(form)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content, message", [
    (b"", "it does not begin like an IDX file of unsigned bytes"),
    (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "it does not begin like an IDX file of unsigned bytes"),
    (b"\x00\x00\x08\x03\x00\x00\x00\x01", "buffer is smaller than requested size"),
    (b"\x00\x00\x08\x01\x00\x00\x00\x03ab", "cannot reshape array of size 2 into shape"),
    (b"\x00\x00\x08\x01\x00\x00\x00\x01ab", "cannot reshape array of size 2 into shape"),
])
def test_idx_that_is_none(content, message):
    with pytest.raises(ValueError, match=message):
        read_idx(content)


def test_cifar_pickles_hold_arrays():
    images = np.arange(12, dtype=np.uint8).reshape(2, 6)
    batch = read_cifar(pickle.dumps({"data": images, "labels": [1, 0]}, protocol=3))
    np.testing.assert_array_equal(batch["data"], images)
    assert batch["labels"] == [1, 0]


def test_cifar_pickle_can_call_nothing(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "called"),)

    with pytest.raises(pickle.UnpicklingError, match=r"it names posix\.mkdir, which no numpy array needs"):
        read_cifar(pickle.dumps({"data": Attack()}))
    assert not (tmp_path / "called").exists()


def test_svhn_label_10_is_digit_0():
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    content = io.BytesIO()
    savemat(content, {"X": images, "y": np.array([[10], [1], [9], [10]], dtype=np.uint8)})
    found, labels = read_svhn(content.getvalue())
    assert labels.tolist() == [0, 1, 9, 0]
    assert labels.dtype == np.int64
    assert found.shape == (4, 3, 32, 32)
    assert found[2, 1, 5, 7] == images[5, 7, 1, 2]
