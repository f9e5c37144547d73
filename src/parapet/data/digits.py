"""The embedded default data set: the UCI handwritten digits that scikit-learn contains.

1,797 grey images of 8x8 pixels with 17 levels (0..16), 10 classes, about 180 images each. `export` writes a folder of
three files. Their bytes are always the same, so that DVC identifies them by their content:

    images.npy    uint8, (1797, 1, 8, 8), 0..16
    labels.npy    int64, (1797,), 0..9
    dataset.json  name, source, licence, levels, and the SHA-256 of the two

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49, CC BY 4.0; scikit-learn contains its test part.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from parapet.data.published import read_whole
from parapet.disk import files
from parapet.disk.replacement import refuse_foreign
from parapet.errors import InputError

LEVELS = 16
FILES = ("images.npy", "labels.npy")
ADVICE = "run `dvc pull` or `parapet data fetch digits`"
SOURCE = "Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, doi:10.24432/C50P49"


def export(folder: Path) -> None:
    """Write scikit-learn's digits to `folder`, which is replaced as a whole. Raises InputError as `write` does."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    write(folder, bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64))


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images uint8 (N, 1, 8, 8) in 0..16 and labels int64 (N,), to `folder`, which is replaced as a
    whole. Raises InputError where that would delete another file.
    """
    refuse_foreign(folder, ("dataset.json", *FILES), "give another folder with --root, or move that file away")
    with files.replacing_folder(folder) as partial:
        np.save(partial / "images.npy", np.ascontiguousarray(images))
        np.save(partial / "labels.npy", labels)
        files.write_json(partial / "dataset.json", {
            "name": "digits", "source": SOURCE, "licence": "CC BY 4.0", "levels": LEVELS,
            "sha256": {name: files.file_digest(partial / name) for name in FILES}})


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 1, 8, 8) in 0..16 and labels int64 (N,), after their checksums were verified.

    Raises InputError where a file is missing or damaged.
    """
    path = folder / "dataset.json"
    try:
        digests = files.read_json(path)["sha256"]
        pinned = [(name, digests[name]) for name in FILES]
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {ADVICE}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct its permissions, or {ADVICE}.") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged: it does not hold the SHA-256 of images.npy and labels.npy; "
                         f"delete it, then {ADVICE}.") from None
    contents = (read_whole(folder / name, digest, "sha256", ADVICE) for name, digest in pinned)
    images, labels = (np.load(io.BytesIO(content), allow_pickle=False) for content in contents)
    return images, labels
