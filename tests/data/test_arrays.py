"""Images of the user's own: what is taken, and what is said of the rest."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from parapet.data.arrays import load_images
from parapet.errors import InputError

GREY = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
LABELS = np.array([0, 1, 2])


def _stored(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return path


def test_bytes_become_fractions_and_grey_images_get_a_channel(tmp_path: Path) -> None:
    images, labels, drawn = load_images(_stored(tmp_path, images=GREY, labels=LABELS.astype(np.uint8)))
    assert images.shape == (3, 1, 4, 4) and images.dtype == torch.float32
    assert torch.equal(images[:, 0], torch.from_numpy(GREY).float() / 255)
    assert labels.dtype == torch.int64 and labels.tolist() == [0, 1, 2] and str(drawn) == "all 3 images"


def test_fewer_than_all_of_a_file_that_is_sorted_by_class_are_a_stratified_draw(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 30)
    images = np.arange(300, dtype=np.float32).reshape(300, 1, 1) / 300
    path = _stored(tmp_path, images=images, labels=labels)
    found, truth, drawn = load_images(path, limit=50, seed=4)
    places = (found.flatten() * 300).round().long()
    assert torch.equal(truth, torch.from_numpy(labels)[places]) and np.bincount(truth).tolist() == [5] * 10
    assert len(set(places.tolist())) == 50
    assert str(drawn) == "50 of 300 images, drawn with seed 4, stratified by label"
    assert torch.equal(load_images(path, limit=50, seed=4)[0], found)
    assert not torch.equal(load_images(path, limit=50, seed=5)[0], found)


def test_a_split_of_a_prepared_data_set(digits_folder: Path, digits) -> None:
    images, labels, drawn = load_images(digits_folder, split="validation", limit=7)
    assert str(drawn) == "7 of 359 images, drawn when the data set was prepared, stratified by label"
    expected, truth = digits.split("validation", limit=7).all()
    assert torch.equal(images, expected) and torch.equal(labels, truth)


@pytest.mark.parametrize(("arrays", "sentence"), [
    ({"x": GREY, "y": LABELS}, "cannot be read as .npz (it has no images and no labels but x, y); give an"),
    ({"images": GREY}, "(it has no labels but images)"),
    ({"images": GREY[0], "labels": LABELS}, "have shape (4, 4); they must be N x C x H x W"),
    ({"images": GREY[:0], "labels": LABELS[:0]}, "N at least 1"),
    ({"images": GREY[:, :0], "labels": LABELS}, "(images has shape (3, 0, 4), with a side of 0)"),
    ({"images": GREY.astype(complex), "labels": LABELS}, "(images holds complex128, and has to hold real numbers)"),
    ({"images": GREY.astype("U3"), "labels": LABELS}, "(images holds <U3, and has to hold real numbers)"),
    ({"images": np.zeros((1,) * 30), "labels": LABELS}, "(images has 30 dimensions of the sizes 1, 1, 1"),
    ({"images": np.array(3), "labels": LABELS}, "(images has 0 dimensions of the sizes )"),
    ({"images": np.zeros((3, 8, 8, 3)), "labels": LABELS}, "with the channels last; transpose them"),
    ({"images": GREY.astype(np.int32), "labels": LABELS}, "are int32; they must be uint8 in 0..255, or float"),
    ({"images": GREY > 100, "labels": LABELS}, "are bool; they must be uint8 in 0..255, or float in [0, 1]."),
    ({"images": (GREY > 0).astype(np.uint8), "labels": LABELS}, "hold only 0 and 1, which are nearly black on a"),
    ({"images": GREY, "labels": np.full(3, 2**64 - 1, np.uint64)}, f"images.npz is {2**64 - 1}; labels are"),
    ({"images": GREY, "labels": LABELS[:2]}, "3 images need 3 whole numbers"),
    ({"images": GREY, "labels": LABELS / 2}, "are float64 of shape (3,)"),
    ({"images": np.array([{}, {}, {}]), "labels": LABELS}, "(images holds object, and has to hold real numbers)"),
])
def test_what_is_wrong_is_said(tmp_path: Path, arrays: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_images(_stored(tmp_path, **arrays))
    assert sentence in str(caught.value)


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "images.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read as .npz"):
        load_images(tmp_path / "images.npz")


def _npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    """The member of an array; with `shape` its header promises that, whatever follows."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": array.dtype.str, "fortran_order": False,
                                                  "shape": array.shape if shape is None else shape})
    return stream.getvalue() + array.tobytes()


def _zipped(folder: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "images.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("members", "sentence"), [
    ([("images.npy", _npy(GREY, (10**9, 17, 14)))], "the header of images says 238,000,000,000 bytes, and 48"),
    ([("images.npy", _npy(GREY, (2, 4, 4)))], "the header of images says 32 bytes, and 48 follow"),
    ([("images.npy", _npy(GREY, (3, -4, -4)))], "images has 3 dimensions of the sizes 3, -4, -4"),
    ([("images.npy", b"no array")], "the magic string is not correct"),
    ([("images.npy", b"\x93NUMPY\x03\x00" + bytes(200))], "images has version 3.0 of the format"),
    ([("images.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16)], ""),
    ([("images", _npy(GREY))], "it has no images but images, labels"),
    ([("images.npy", _npy(GREY)), ("images.npy", _npy(GREY))], "it has images twice"),
    ([("images.npy", _npy(np.zeros((3, 6000, 6000), np.uint8)))], "bytes to 108,000,1"),
])
def test_members_that_are_not_what_they_promise(tmp_path: Path, members: list[tuple[str, bytes]],
                                                sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_images(_zipped(tmp_path, [*members, ("labels.npy", _npy(LABELS))]))
    told = str(caught.value)
    assert sentence in told and told.isprintable() and len(told) < 600


def test_a_file_that_is_too_large_for_memory_is_not_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("parapet.data.npz._free", lambda: 200)
    with pytest.raises(InputError, match=r"\(images needs 0.0 GB of memory, of which 0.0 are free\)"):
        load_images(_stored(tmp_path, images=GREY, labels=LABELS))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_byte_of_a_damaged_file_is_read_or_told(tmp_path: Path, method: int) -> None:
    path = _zipped(tmp_path, [("images.npy", _npy(GREY)), ("labels.npy", _npy(LABELS))], method)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x15]) + content[place + 1:]):
            path.write_bytes(damaged)
            try:
                images, _ = load_images(path)[:2]
            except InputError as error:
                assert str(error).isprintable() and len(str(error)) < 600
            else:
                assert torch.equal(images[:, 0], torch.from_numpy(GREY).float() / 255)
