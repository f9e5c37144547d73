"""Images beside their adversarial versions, as PNG data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class AdversarialImages:
    """`k` images of one candidate before and after one attack.

    `clean` and `adversarial` are floats in [0, 1], shape (k, C, H, W); `labels` and the predictions are class
    indices, shape (k,).
    """

    clean: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray
    predictions_clean: np.ndarray
    predictions_adversarial: np.ndarray
    attack: str


@dataclass(frozen=True)
class Example:
    """One image of the page: three data URIs, three class names, and whether each prediction was right."""

    clean: str
    adversarial: str
    difference: str
    label: str
    predicted_clean: str
    predicted_adversarial: str
    right_clean: bool
    right_adversarial: bool


def magnification(images: AdversarialImages) -> float:
    """The factor that scales the largest change of any pixel to black or white around mid grey."""
    change = np.abs(np.asarray(images.adversarial, np.float64) - np.asarray(images.clean, np.float64))
    return 0.5 / max(float(change.max(initial=0.0)), 1e-3)


def examples(images: AdversarialImages, classes: list[str], limit: int) -> list[Example]:
    """The first `limit` images, ready for the page."""
    factor = magnification(images)
    result = []
    for index in range(min(limit, len(images.clean))):
        clean, adversarial = (np.asarray(part[index], np.float64) for part in (images.clean, images.adversarial))
        label, first, second = (int(part[index]) for part in
                                (images.labels, images.predictions_clean, images.predictions_adversarial))
        result.append(Example(data_uri(clean), data_uri(adversarial), data_uri(0.5 + factor * (adversarial - clean)),
                              _name(classes, label), _name(classes, first), _name(classes, second),
                              first == label, second == label))
    return result


def data_uri(image: np.ndarray) -> str:
    """One image, shape (C, H, W) in [0, 1], as `data:image/png;base64,...`; values outside are clipped."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")


def png(image: np.ndarray) -> bytes:
    """One image, shape (C, H, W) in [0, 1], as an 8-bit PNG: RGB for three channels, else their mean as grey."""
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    pixels = np.rint(np.clip(np.nan_to_num(pixels), 0.0, 1.0) * 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", optimize=True)
    return written.getvalue()


def _name(classes: list[str], index: int) -> str:
    return classes[index] if 0 <= index < len(classes) else str(index)
