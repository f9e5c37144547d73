"""Named recipes: YAML files in this folder, or the user's own; each describes a whole training.

    description: one line with the paper
    data:        the data set
    threat:      {norm, eps}; eps may be written 8/255
    training:    keys of `parapet.config.TrainingConfig`
    genome:      any subset of the genes; the others have the defaults of `Genome`
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parapet.catalogue.datasets import DATASETS
from parapet.config import ThreatModel, TrainingConfig, option, parse, to_dict
from parapet.disk import plain_yaml
from parapet.disk.files import is_endless
from parapet.disk.plain_json import NotPlain
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.quoting import name as named
from parapet.quoting import quote

_ENDINGS = (".yaml", ".yml")
# A single training is validated after every epoch and loses at most one epoch; a search validates less often.
_EVERY_EPOCH = {"validate_every": 1, "checkpoint_seconds": 0.0}


@dataclass(frozen=True)
class _Content:
    """The content of a recipe's file."""

    description: str = option("")
    data: str = option("digits", choices=DATASETS)
    threat: ThreatModel = option(ThreatModel, factory=True)
    training: TrainingConfig = option(TrainingConfig, factory=True)
    genome: Genome = option(Genome, factory=True)


@dataclass(frozen=True, kw_only=True)
class NamedRecipe(_Content):
    """A checked recipe; `name` is that of its file without the suffix, and `genome` is canonical."""

    name: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return to_dict(self)


def names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_recipe(name_or_path: str, changes: Sequence[str] = ()) -> NamedRecipe:
    """Read and check a recipe: one of `names()`, or the path of a .yaml file.

    changes: such as `training.epochs=3`; they replace values of the file. Raises InputError for an unknown recipe, an
    unknown or missing key, a value out of range and a file that cannot be read.
    """
    path = _find(name_or_path)
    values = _read(path)
    for change in changes:
        _change(values, change)
    try:
        if missing := [key for key in _keys(_Content) if key not in values]:
            raise InputError(f"{', '.join(missing)} is missing; a recipe has {', '.join(_keys(_Content))}.")
        if isinstance(values["training"], dict):
            values["training"] = {**_EVERY_EPOCH, **values["training"]}
        content = parse(_Content, values)
        genome = Genome.from_dict(content.genome.to_dict())
    except InputError as error:
        # A path is shown in full, so that the file can be found.
        shown = name_or_path if str(name_or_path).isprintable() else named(name_or_path)
        raise InputError(f"recipe {shown}: {error}") from None
    fields = {key: getattr(content, key) for key in _keys(_Content)}
    return NamedRecipe(name=path.stem, **{**fields, "genome": genome})


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in _ENDINGS:
        return path
    if name_or_path not in names():
        near = difflib.get_close_matches(name_or_path, names(), n=1)
        hint = f"did you mean {near[0]}? Allowed" if near else "allowed"
        raise InputError(f"there is no recipe {quote(name_or_path)}; {hint}: {', '.join(names())}, or the path of a "
                         ".yaml file.")
    return Path(__file__).parent / f"{name_or_path}.yaml"


def _read(path: Path) -> dict[str, Any]:
    if is_endless(path):  # the worker that trains reads it again
        raise InputError(f"{path} is a pipe or a device, and a recipe is read twice; give a file.")
    values = plain_yaml.read(path, f"give the path of a recipe, or one of {', '.join(names())}")
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no recipe but {quote(values)}; a recipe has {', '.join(_keys(_Content))}.")
    return values


def _change(values: dict[str, Any], change: str) -> None:
    """Set `section.key=value` in the values of a file."""
    place, equals, text = change.partition("=")
    section, _, key = place.strip().partition(".")
    if not (equals and place.strip()):
        raise InputError(f"--set is {quote(change)}; it must be KEY=VALUE, for example training.epochs=3.")
    try:
        value = plain_yaml.loads(text)
    except NotPlain as error:
        raise InputError(f"--set {named(change)} has a value that YAML cannot read ({error}); put it in quotes."
                         ) from None
    known = list(_dotted())
    if place.strip() not in known:
        near = difflib.get_close_matches(named(place.strip()), known, n=1, cutoff=0.7)
        near = near or [name for name in known if name.endswith(f".{place.strip()}")]
        hint = f"; did you mean {near[0]}?" if near else "."
        section = section if section in ("threat", "training", "genome") and key else ""
        allowed = [name for name in known if name.startswith(f"{section}.")] if section else _keys(_Content)
        raise InputError(f"--set names {named(place.strip())}, which no recipe has{hint} "
                         f"{f'The keys of {section}' if section else 'The parts of a recipe'} are: "
                         f"{', '.join(allowed)}.")
    if not key:
        values[section] = value
    elif isinstance(values.setdefault(section, {}), dict):
        values[section][key] = value


def _dotted() -> Iterable[str]:
    yield from ("description", "data")
    for section, kind in (("threat", ThreatModel), ("training", TrainingConfig), ("genome", Genome)):
        yield from (f"{section}.{key}" for key in _keys(kind))


def _keys(kind: type) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]
