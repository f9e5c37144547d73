"""What a prepared data set says of itself (dataset.json), read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.errors import InputError
from parapet.files import read_json

SCHEMA_VERSION = 1
FIELDS = ("name", "classes", "levels", "image_shape", "images", "mean", "std", "fingerprint")


def read_info(folder: Path) -> dict[str, Any]:
    """dataset.json of a prepared data set, with at least schema_version and FIELDS.

    classes: list of names. image_shape: [C, H, W]. images: number of images by split. levels: pixel / levels lies in
    [0, 1]. mean, std: of the training images, per channel, in [0, 1]. fingerprint: SHA-256 (hex) of all the data.
    Raises InputError where it is missing, damaged or of another schema version.
    """
    path = folder / "dataset.json"
    try:
        info = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no prepared data set ({path} is missing); {prepare(folder)}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); mend its permissions, or {prepare(folder)}."
                         ) from None
    except ValueError:
        info = None
    if not isinstance(info, dict) or "schema_version" not in info:
        raise InputError(f"{path} is damaged; {prepare(folder)}.")
    if info["schema_version"] != SCHEMA_VERSION:
        raise InputError(f"{path} has schema_version {info['schema_version']!r}, and this Parapet reads "
                         f"{SCHEMA_VERSION}; {prepare(folder)}.")
    absent = [field for field in FIELDS if field not in info]
    if absent:
        raise InputError(f"{path} is damaged ({', '.join(absent)} missing); {prepare(folder)}.")
    return info


def prepare(folder: Path) -> str:
    """What to do about a prepared folder that is missing or damaged, as the end of a sentence."""
    return f"run `parapet data_prep --out {folder}`"
