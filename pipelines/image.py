"""Which images a pipeline for a cluster may name."""

from __future__ import annotations

import re

from parapet.errors import InputError
from parapet.quoting import quote

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def refuse_mutable(image: str, *, allowed: bool) -> None:
    """InputError for an image by tag, unless `allowed`: Kubeflow's cache identifies an image by its name alone, and
    would reuse results of the code that the tag stood for before."""
    if not allowed and not _DIGEST.fullmatch(image):
        raise InputError(f"the image {quote(image)} is named by a tag, which can come to mean another image without "
                         "Kubeflow's cache noticing; name it by its digest (NAME@sha256:..., as `make images` prints "
                         "it), or say --allow-mutable-tag.")
