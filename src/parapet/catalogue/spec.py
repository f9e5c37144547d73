"""What all declarations of the catalogue have in common, and the table of those of one kind."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import quote


class Spec(Protocol):
    """A declaration: a frozen object with the name that params.yaml, genomes and records use for it."""

    @property
    def name(self) -> str:
        """Unique among the declarations of its kind."""


S = TypeVar("S", bound=Spec)


class Catalogue(Mapping[str, S], Generic[S]):
    """The declarations of one kind by name, in the order of declaration; `kind`, such as "a loss", is for messages."""

    def __init__(self, kind: str, specs: Iterable[S]) -> None:
        self.kind = kind
        self._specs: dict[str, S] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: S) -> None:
        """Add a declaration; InputError where another one has its name. Adding the same one again changes nothing."""
        if self._specs.setdefault(spec.name, spec) is not spec:
            raise InputError(f"{quote(spec.name)} is declared twice as {self.kind}; give one of the two another name.")

    def find(self, name: Any, where: str) -> S:
        """The declaration called `name`; else an InputError that begins with `where` and lists the known names."""
        if isinstance(name, str) and name in self._specs:
            return self._specs[name]
        near = difflib.get_close_matches(named(name), self._specs, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InputError(f"{where} is {quote(name)}{hint} Allowed: {', '.join(self._specs)}.")

    def __getitem__(self, name: str) -> S:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def resolve(reference: str) -> Any:
    """The object that `reference`, "module:name", names; its module is imported now."""
    return pkgutil.resolve_name(reference)
