"""Declarations of plugins: installed packages with entry points, and a project's own modules.

A module that params.yaml lists under `plugins` has a tuple `DECLARATIONS`; an entry point of one of the groups `GROUPS`
names one declaration or a tuple of them. Once registered, their names can be used like the built-in ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
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
from parapet.catalogue.valid import problem
from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import words

GROUPS = ("parapet.losses", "parapet.backbones", "parapet.attacks", "parapet.datasets", "parapet.objectives",
          "parapet.defences")
DECLARATIONS = "DECLARATIONS"
TABLES: dict[type, Catalogue[Any]] = {
    Loss: LOSSES, Regulariser: REGULARISERS, Backbone: BACKBONES, Activation: ACTIVATIONS, Denoiser: DENOISERS,
    InputFilter: FILTERS, AttackSpec: ATTACKS, DataSet: DATASETS, Quantity: QUANTITIES, Gene: GENES}
# The module of each plugin's declaration, the digest of its source at the time of import, what was registered, and the
# folders of modules: these belong to the process, as the tables of the import system do.
_origins: dict[int, str] = {}
_digests: dict[str, str] = {}
_modules: list[str] = []
_folders: list[str] = []
_installed: list[str] = []


def register(modules: Iterable[str], folder: Path | None = None) -> None:
    """Add the declarations of `modules`, which may lie in `folder`; a repeated call changes nothing.

    Raises InputError for a module that cannot be imported, has no declarations, or has one that is not valid.
    """
    for name in modules:
        if folder is not None and (place := str(folder.resolve())) not in sys.path:
            sys.path.append(place)  # at the end: a file there must not hide an installed package
            _folders.append(place)
        module = _imported(name)
        if folder is not None:
            _refuse_another(name, module, folder.resolve())
        found = getattr(module, DECLARATIONS, None)
        if not isinstance(found, Sequence) or isinstance(found, str) or not found:
            raise InputError(f"plugins lists {named(name)}, which has no {DECLARATIONS}; give it a tuple of that name "
                             "with what it adds.")
        _add(found, module, f"{DECLARATIONS} of {name}")
        if name not in _modules:
            _modules.append(name)


def register_installed() -> None:
    """Add the declarations of installed packages, from entry points of the groups `GROUPS`."""
    for group in GROUPS:
        for entry in metadata.entry_points(group=group):
            try:
                with _stdout_to_stderr():
                    found = entry.load()
            except (Exception, SystemExit) as error:  # a package may raise anything
                raise InputError(f"the entry point {named(entry.name)} of {group} cannot be loaded "
                                 f"({type(error).__name__}: {words(error)}); fix or uninstall its package."
                                 ) from error
            _add(found if isinstance(found, Sequence) else (found,), importlib.import_module(entry.module),
                 f"the entry point {entry.name}")
            if entry.name not in _installed:
                _installed.append(entry.name)


def inheritance() -> dict[str, Any]:
    """What a child process needs for `inherit`, as plain values for JSON."""
    return {"folders": list(_folders), "modules": list(_modules), "installed": list(_installed),
            "digests": dict(_digests)}


def inherit(known: Mapping[str, Any]) -> None:
    """Register what the parent process, which gave its `inheritance`, has registered.

    Raises InputError where the source of a plugin has changed since: results would have a wrong key.
    """
    sys.path.extend(folder for folder in known["folders"] if folder not in sys.path)
    _folders.extend(folder for folder in known["folders"] if folder not in _folders)
    if known["installed"]:
        register_installed()
    register(known["modules"])
    for name, found in known["digests"].items():
        if _digests.get(name) != found:
            raise InputError(f"the plugin {name} was changed while the command ran; run the same command again.")


def sources(declarations: Iterable[Any]) -> dict[str, str]:
    """SHA-256 of the source, at the time of import, of each module that made any of `declarations`.

    Part of the keys of results: they are measured again after the code has changed.
    """
    origins = {_origins[id(one)] for one in declarations if id(one) in _origins}
    return {name: _digests[name] for name in sorted(origins)}


def _imported(name: str) -> ModuleType:
    try:
        with _stdout_to_stderr():
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        raise InputError(f"plugins lists {named(name)}, which cannot be imported ({type(error).__name__}: "
                         f"{words(error)}); give the name of a module that is installed or lies beside params.yaml."
                         ) from error


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Standard output is for the answers of commands: what a plugin prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _refuse_another(name: str, module: ModuleType, folder: Path) -> None:
    """InputError where `folder` has a module of that name, and this process has imported another one."""
    wanted = next((path for path in (folder / f"{name}.py", folder / name / "__init__.py") if path.exists()), None)
    if wanted is not None and Path(str(module.__file__)).resolve() != wanted.resolve():
        raise InputError(f"plugins lists {named(name)}, and {wanted} is hidden by {module.__file__}, which has the "
                         "same name; give it another name.")


def _add(found: Sequence[Any], module: ModuleType, where: str) -> None:
    for one in found:
        table: Catalogue[Any] | None = next((held for kind, held in TABLES.items() if isinstance(one, kind)), None)
        if table is None:
            raise InputError(f"{where} holds a {type(one).__name__}; allowed are "
                             f"{', '.join(kind.__name__ for kind in TABLES)}.")
        if any(one is known for known in table.values()):
            if id(one) not in _origins:
                raise InputError(f"{where} holds {one.name}, which Parapet itself declares; leave it out.")
            continue
        if (wrong := problem(one, module)) is not None:
            raise InputError(f"{where} holds {type(one).__name__} {named(one.name)}, {wrong}.")
        table.add(one)
        _origins[id(one)] = module.__name__
    for one in found:
        if isinstance(one, Regulariser) and one.name not in GENES:
            GENES.add(gene := regulariser_gene(one.name))
            _origins[id(gene)] = module.__name__
        if isinstance(one, Loss):
            _check_loss(one, where)
    if module.__name__ not in _digests:
        _digests[module.__name__] = _digest(module, found)


def _check_loss(loss: Loss, where: str) -> None:
    for weight in loss.weights:
        if weight.gene not in GENES:
            raise InputError(f"{where} holds the loss {loss.name}, whose weight {weight.name} is the gene "
                             f"{weight.gene}, which is not declared; add a Gene of that name.")
    if loss.teacher is not None and (loss.teacher == loss.name or loss.teacher not in LOSSES):
        raise InputError(f"{where} holds the loss {loss.name}, whose teacher is {loss.teacher}; name another loss.")


def _digest(module: ModuleType, declarations: Iterable[Any]) -> str:
    """SHA-256 of the module's file, or of every Python file of its package, and of the modules beside it that its
    declarations name."""
    first = _source(module.__name__)
    named_modules = {str(value).partition(":")[0] for one in declarations for item in fields(one)
                     if isinstance(value := getattr(one, item.name), str) and ":" in value}
    beside = {place for name in named_modules if (place := _source(name)).parent == first.parent}
    found = hashlib.sha256()
    for place in sorted({first, *beside}):
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.relative_to(place.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _source(name: str) -> Path:
    """The file or the package's folder of the outermost package of a module."""
    top = name.partition(".")[0]
    spec = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return Path(top)
    path = Path(spec.origin)
    return path.parent if path.name == "__init__.py" else path
