"""The check of the image that a pipeline for a cluster uses."""

from __future__ import annotations

import re

from parapet.errors import InputError
from parapet.quoting import quote

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def refuse_mutable(image: str, *, allowed: bool) -> None:
    """Raise InputError for an image without a digest, unless `allowed`: Kubeflow's cache identifies an image only by
    its name, and would reuse results of an older image with the same tag."""
    if not allowed and not _DIGEST.fullmatch(image):
        raise InputError(f"the image {quote(image)} is named by a tag, which can come to mean another image without "
                         "Kubeflow's cache noticing; name it by its digest (NAME@sha256:..., as `make images` prints "
                         "it), or say --allow-mutable-tag.")
