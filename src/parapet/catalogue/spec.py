"""What every declaration in the catalogue has in common, and the table that holds those of one kind."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import quote


class Spec(Protocol):
    """A declaration: a frozen object with the name by which params.yaml, genomes and records call it."""

    @property
    def name(self) -> str:
        """The word, unique among the declarations of its kind."""


S = TypeVar("S", bound=Spec)


class Catalogue(Mapping[str, S], Generic[S]):
    """The declarations of one kind by name, in the order in which they were made.

    `kind` is what one of them is called in sentences, for example "a loss".
    """

    def __init__(self, kind: str, specs: Iterable[S]) -> None:
        self.kind = kind
        self._specs: dict[str, S] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: S) -> None:
        """Add a declaration; InputError where another one has its name already. Adding one again changes nothing."""
        if self._specs.setdefault(spec.name, spec) is not spec:
            raise InputError(f"{quote(spec.name)} is declared twice as {self.kind}; give one of the two another name.")

    def find(self, name: Any, where: str) -> S:
        """The declaration called `name`; InputError that begins with `where` and lists the names there are."""
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
    """The object that `reference`, "module:name", names; its module is imported now, and not before."""
    return pkgutil.resolve_name(reference)
