"""Images and labels for an evaluation: a split of a prepared data set, or an .npz file of the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parapet.data import npz
from parapet.data.dataset import Dataset
from parapet.data.sampling import Drawn, stratified
from parapet.disk.files import is_endless
from parapet.errors import InputError

_WANTED = 'with "images" (uint8 0..255, or float in [0, 1], N x C x H x W or N x H x W) and "labels" (whole numbers)'


def load_images(path: Path, *, split: str = "test", limit: int | None = None, seed: int = 0,
                device: str | torch.device = "cpu") -> tuple[Tensor, Tensor, Drawn]:
    """(images, labels, how they were drawn): float32 (N, C, H, W) in [0, 1] and int64 (N,), at most `limit`, on
    `device`.

    `path` is the folder of a prepared data set, from which `split` is read, or an .npz file. Nothing is unpickled. A
    limit gives a part that is stratified by label: of an .npz file a random draw from `seed`, in the order of the file;
    of a prepared split its first images, because their order was drawn and stratified when it was written.
    Raises InputError for a file or folder that does not hold such images.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--images is {limit}; it must be at least 1.")
    if path.is_dir():
        data = Dataset.open(path)
        images, labels = data.split(split, device, limit).all()
        return images, labels, Drawn(len(labels), data.images[split], None)
    if not path.exists():
        raise InputError(f"--data {path} does not exist; give the folder of a prepared data set (parapet data_prep "
                         f"makes one), or an .npz file {_WANTED}.")
    if is_endless(path):
        raise InputError(f"--data {path} is a pipe or a device; give an .npz file {_WANTED}.")
    try:
        pixels, classes = npz.read(path, ("images", "labels"))
    except npz.BadArrays as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); give an .npz file {_WANTED}.") from None
    _check_images(pixels, path)
    _check_labels(classes, len(pixels), path)
    rows = stratified(classes, len(classes) if limit is None else limit, seed)
    return (_as_fractions(pixels[rows]).to(device), torch.from_numpy(classes[rows].astype(np.int64)).to(device),
            Drawn(len(rows), len(classes), seed))


def _check_images(images: np.ndarray, path: Path) -> None:
    if images.ndim not in (3, 4) or len(images) == 0:
        raise InputError(f"the images of {path} have shape {images.shape}; they must be N x C x H x W, N at least 1.")
    if images.ndim == 4 and images.shape[1] > images.shape[3] and images.shape[3] in (1, 3, 4):
        raise InputError(f"the images of {path} have shape {images.shape}, with the channels last; transpose them to "
                         "N x C x H x W.")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"the images of {path} are {images.dtype}; they must be uint8 in 0..255, or float in [0, 1].")
    if images.dtype == np.uint8 and images.max() == 1:
        raise InputError(f"the images of {path} are uint8 and hold only 0 and 1, which are nearly black on a scale of "
                         "0..255; multiply them by 255, or give them as float32.")


def _as_fractions(images: np.ndarray) -> Tensor:
    if images.ndim == 3:
        images = images[:, None]
    fractions = images.astype(np.float32)
    return torch.from_numpy(fractions / 255 if images.dtype == np.uint8 else fractions)


def _check_labels(labels: np.ndarray, count: int, path: Path) -> None:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"the labels of {path} are {labels.dtype} of shape {labels.shape}; {count} images need "
                         f"{count} whole numbers.")
    if int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(f"the largest label of {path} is {int(labels.max())}; labels are the numbers of classes, from "
                         "0 on.")
