"""Images of the user's own: what is taken, and what is said of the rest."""

from __future__ import annotations

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
    ({"x": GREY, "y": LABELS}, "has no images and no labels but x, y"),
    ({"images": GREY}, "has no labels but images"),
    ({"images": GREY[0], "labels": LABELS}, "have shape (4, 4); they must be N x C x H x W"),
    ({"images": GREY[:0], "labels": LABELS[:0]}, "N at least 1"),
    ({"images": np.zeros((3, 8, 8, 3)), "labels": LABELS}, "with the channels last; transpose them"),
    ({"images": GREY.astype(np.int32), "labels": LABELS}, "are int32; they must be uint8 in 0..255, or float"),
    ({"images": GREY, "labels": LABELS[:2]}, "3 images need 3 whole numbers"),
    ({"images": GREY, "labels": LABELS / 2}, "are float64 of shape (3,)"),
    ({"images": np.array([{}, {}, {}]), "labels": LABELS}, "cannot be read as .npz"),
])
def test_what_is_wrong_is_said(tmp_path: Path, arrays: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_images(_stored(tmp_path, **arrays))
    assert sentence in str(caught.value)


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "images.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read as .npz"):
        load_images(tmp_path / "images.npz")
