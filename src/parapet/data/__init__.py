"""Data sets: fetch, verify, split, fingerprint; batches on the device.

`load` reads a published data set, `split` divides it, `write` writes the prepared folder, and `Dataset.open` reads it.
`parapet.data.fetch` fetches a data set from the network or from a local folder. Each name is imported when it is first
used: reading dataset.json needs no torch, and reading a prepared folder needs only torch, numpy and safetensors;
torchvision, scikit-learn and scipy are imported where published files are read.
"""

from importlib import import_module
from typing import Any

_HOME = {"Dataset": "dataset", "write": "dataset", "Images": "images", "Source": "sources", "load": "sources",
         "split": "splits"}
__all__ = ["Dataset", "Images", "Source", "load", "split", "write"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
