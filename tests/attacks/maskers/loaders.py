"""Ways to load a model in another process, and loaders that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from parapet.models import load
from tests.attacks.maskers.base import Model
from tests.attacks.maskers.memory import InAFile


def from_file(masker: Callable[[Model], Model], path: str) -> Model:
    """What `functools.partial` of this loads in another process: the masker around the network of a weights file."""
    return masker(load(Path(path)))


def in_this_file(weights: str, memory: str) -> Model:
    """A masker whose copies share their memory in the file `memory`."""
    return InAFile(load(Path(weights)), Path(memory))


def honest(network: Model) -> Model:
    """No masker at all."""
    return network


def dying() -> Model:
    """A loader that takes its process with it."""
    os._exit(9)


def unlicensed() -> Model:
    """A loader that serves one process only."""
    raise ValueError("no licence for a second process")


def sleeping() -> Model:
    """A loader that takes its time."""
    time.sleep(300)
    raise AssertionError
