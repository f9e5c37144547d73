"""Declarations from outside: of installed packages by entry points, and of a project's own modules.

A module that params.yaml lists under `plugins` has a tuple `DECLARATIONS`; an entry point of one of the groups `GROUPS`
names one declaration or a tuple of them. From then on their names can be used wherever those of Parapet can.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from parapet.catalogue.attacks import ATTACKS, AttackSpec
from parapet.catalogue.crafting import REGULARISERS, Regulariser
from parapet.catalogue.datasets import DATASETS, DataSet
from parapet.catalogue.genes import GENES, Gene, regulariser_gene
from parapet.catalogue.losses import LOSSES, Loss
from parapet.catalogue.networks import (
    ACTIVATIONS,
    BACKBONES,
    DENOISERS,
    FILTERS,
    Activation,
    Backbone,
    Denoiser,
    InputFilter,
)
from parapet.catalogue.quantities import QUANTITIES, Quantity
from parapet.catalogue.spec import Catalogue
from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import words

GROUPS = ("parapet.losses", "parapet.backbones", "parapet.attacks", "parapet.datasets", "parapet.objectives",
          "parapet.defences")
DECLARATIONS = "DECLARATIONS"
TABLES: dict[type, Catalogue[Any]] = {
    Loss: LOSSES, Regulariser: REGULARISERS, Backbone: BACKBONES, Activation: ACTIVATIONS, Denoiser: DENOISERS,
    InputFilter: FILTERS, AttackSpec: ATTACKS, DataSet: DATASETS, Quantity: QUANTITIES, Gene: GENES}
# Which module each declaration from outside came from, what was registered, and where modules were looked for: these
# belong to the process, as the tables of the import system do.
_origins: dict[int, str] = {}
_modules: list[str] = []
_folders: list[str] = []
_installed: list[str] = []


def register(modules: Iterable[str], folder: Path | None = None) -> None:
    """Add the declarations of `modules`, which may lie in `folder`; each once, however often it is asked for.

    Raises InputError for a module that cannot be imported, has no declarations, or declares a name that there is.
    """
    for name in modules:
        if folder is not None and (place := str(folder.resolve())) not in sys.path:
            sys.path.insert(0, place)
            _folders.append(place)
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever a user's own code may raise
            raise InputError(f"plugins lists {named(name)}, which cannot be imported ({type(error).__name__}: "
                             f"{words(error)}); give the name of a module that is installed or lies beside params.yaml."
                             ) from error
        found = getattr(module, DECLARATIONS, None)
        if not isinstance(found, Sequence) or not found:
            raise InputError(f"plugins lists {named(name)}, which has no {DECLARATIONS}; give it a tuple of that name "
                             "with what it adds.")
        _add(found, name, f"{DECLARATIONS} of {name}")
        if name not in _modules:
            _modules.append(name)


def register_installed() -> None:
    """Add what installed packages declare by entry points of the groups `GROUPS`."""
    for group in GROUPS:
        for entry in metadata.entry_points(group=group):
            try:
                found = entry.load()
            except Exception as error:  # whatever another package may raise
                raise InputError(f"the entry point {named(entry.name)} of {group} cannot be loaded "
                                 f"({type(error).__name__}: {words(error)}); mend or uninstall the package that has it."
                                 ) from error
            _add(found if isinstance(found, Sequence) else (found,), entry.module, f"the entry point {entry.name}")
            if entry.name not in _installed:
                _installed.append(entry.name)


def inheritance() -> dict[str, list[str]]:
    """What a child process needs for `inherit`, as JSON."""
    return {"folders": list(_folders), "modules": list(_modules), "installed": list(_installed)}


def inherit(known: Mapping[str, Sequence[str]]) -> None:
    """Register what the process that gave its `inheritance` has registered."""
    sys.path[:0] = [folder for folder in known["folders"] if folder not in sys.path]
    _folders.extend(folder for folder in known["folders"] if folder not in _folders)
    if known["installed"]:
        register_installed()
    register(known["modules"])


def sources(declarations: Iterable[Any] | None = None) -> dict[str, str]:
    """SHA-256 of the source of each module that made any of `declarations`; of every plugin by default.

    Part of the keys under which results are kept: what changed code has measured is measured again.
    """
    origins = set(_origins.values()) if declarations is None else {
        _origins[id(one)] for one in declarations if id(one) in _origins}
    return {name: _digest(importlib.import_module(name)) for name in sorted(origins)}


def _add(found: Iterable[Any], module: str, where: str) -> None:
    for one in found:
        table = next((table for kind, table in TABLES.items() if isinstance(one, kind)), None)
        if table is None:
            raise InputError(f"{where} holds a {type(one).__name__}; allowed are "
                             f"{', '.join(kind.__name__ for kind in TABLES)}.")
        table.add(one)
        _origins[id(one)] = module
        if isinstance(one, Regulariser) and one.name not in GENES:
            GENES.add(gene := regulariser_gene(one.name))
            _origins[id(gene)] = module
    for loss in found:
        for weight in loss.weights if isinstance(loss, Loss) else ():
            if weight.gene not in GENES:
                raise InputError(f"{where} holds the loss {loss.name}, whose weight {weight.name} is the gene "
                                 f"{weight.gene}, which is not declared; add a Gene of that name.")


def _digest(module: ModuleType) -> str:
    """Of the module's file, or of every Python file of the package that it belongs to."""
    top = importlib.import_module(module.__name__.partition(".")[0])
    places = [Path(place) for place in getattr(top, "__path__", ())]
    files = sorted(path for place in places for path in place.rglob("*.py")) or [Path(str(module.__file__))]
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
