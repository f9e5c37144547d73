"""PNG data URIs hold the pixels they were given."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from parapet.report.images import AdversarialImages, data_uri, examples, magnification, png


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
def test_png_holds_the_pixels(shape) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    with Image.open(io.BytesIO(png(pixels / 255))) as image:
        read = np.asarray(image)
    expected = pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(read, expected if shape[0] == 3 else expected[..., 0])


def test_values_outside_are_cut_off() -> None:
    image = np.array([[[-1.0, 2.0, np.nan]]])
    uri = data_uri(image)
    assert uri.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as opened:
        assert np.asarray(opened).tolist() == [[0, 255, 0]]


def test_examples_name_classes_and_magnify_the_difference() -> None:
    clean = np.full((2, 1, 2, 2), 0.5, np.float32)
    adversarial = clean + np.array([0.1, -0.1], np.float32).reshape(2, 1, 1, 1)
    images = AdversarialImages(clean, adversarial, np.array([0, 1]), np.array([0, 0]), np.array([1, 7]), "pgd")
    assert magnification(images) == pytest.approx(5, rel=1e-5)
    first, second = examples(images, ["cat", "dog"], 8)
    assert (first.label, first.predicted_clean, first.predicted_adversarial) == ("cat", "cat", "dog")
    assert (first.right_clean, first.right_adversarial, second.right_clean) == (True, False, False)
    # A class that has no name is called by its number.
    assert second.predicted_adversarial == "7"
    assert first.difference == data_uri(np.ones((1, 2, 2))) and second.difference == data_uri(np.zeros((1, 2, 2)))


def test_images_without_any_change_are_shown() -> None:
    same = np.zeros((1, 1, 2, 2))
    images = AdversarialImages(same, same, *np.zeros((3, 1), int), "pgd")
    assert len(examples(images, ["cat"], 5)) == 1 and np.isfinite(magnification(images))
