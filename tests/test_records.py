"""Records do not change once they are made, but for those that are named here with a reason."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import parapet

# State that goes on: a training and its progress, workers and their work, what a verification found, an attack so far.
CHANGING = {"Progress", "Learner", "_Worker", "_Job", "Findings", "_State"}


def test_records_are_frozen() -> None:
    found = set()
    for module in pkgutil.walk_packages(parapet.__path__, "parapet."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.name \
                    and not value.__dataclass_params__.frozen:
                found.add(name)
    assert found == CHANGING
