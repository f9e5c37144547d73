"""The numbers of a candidate that a search minimises, a query selects by, and reports show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parapet.catalogue.spec import Catalogue, resolve
from parapet.errors import InputError
from parapet.quoting import words


@dataclass(frozen=True)
class Quantity:
    """A number of a candidate.

    name: its key, in the block `validation` for an accuracy, else at the top of an archive record or front member.
    words: its name in sentences. title, most, least, example: for selection queries and their messages.
    objective: the name under which a search minimises it, None where it cannot.
    unit: "share" of 1, "count" of things, or the unit of a measurement.
    more_is_better: an accuracy; its objective is 1 - accuracy.
    floor: for a quantity that is compared by its log10: smaller values count as this one.
    source: "module:function" of a candidate (an archive record or a member of front.json) that gives the value, or None
    where something that it needs was not measured; without `source` the record has the value under the name.
    """

    name: str
    title: str
    most: str
    least: str
    example: str
    objective: str | None = None
    words: str = ""
    unit: str = "count"
    more_is_better: bool = False
    floor: float | None = None
    source: str | None = None

    def of(self, candidate: Any) -> float | None:
        """Its value for a `Record`, a line of the archive or a member of front.json, on validation; None where it was
        not measured."""
        if self.source is not None:
            return self._computed(candidate if isinstance(candidate, Mapping) else candidate.to_json())
        block = _field(candidate, "validation") if self.is_share else candidate
        value = None if block is None else _field(block, self.name)
        return value["p50"] if isinstance(value, Mapping) else value

    def _computed(self, candidate: Mapping[str, Any]) -> float | None:
        try:
            found = resolve(str(self.source))(candidate)
            return None if found is None else float(found)
        except Exception as error:  # whatever the code of a plugin may raise
            raise InputError(f"the quantity {self.name} cannot be computed by {self.source} ({type(error).__name__}: "
                             f"{words(error)}); fix the plugin that declares it.") from error

    def position(self, value: float) -> float:
        """`value` on the scale on which it is compared: itself, or its log10."""
        return value if self.floor is None else math.log10(max(self.floor, value))

    @property
    def is_count(self) -> bool:
        """Whether it is a whole number of things."""
        return self.unit == "count"

    @property
    def is_share(self) -> bool:
        """Whether it is an accuracy, from 0 to 1."""
        return self.unit == "share"


QUANTITIES: Catalogue[Quantity] = Catalogue("a quantity", (
    Quantity("clean_accuracy", "clean_accuracy", "highest", "lowest", "0.95", "clean_error", "clean accuracy",
             unit="share", more_is_better=True),
    Quantity("robust_accuracy", "robust_accuracy", "highest", "lowest", "0.88", "robust_error", "robust accuracy",
             unit="share", more_is_better=True),
    Quantity("flops", "FLOPs", "most", "fewest", "1e6", "flops", "FLOPs", floor=1.0),
    Quantity("params", "params", "most", "fewest", "1e5", None, "parameters", floor=1.0),
    Quantity("latency_ms", "latency_ms", "highest", "lowest", "0.2", "latency_ms", "latency", "ms", floor=1e-6),
))


def _field(of: Any, name: str) -> Any:
    return of[name] if isinstance(of, dict) else getattr(of, name)


class Objectives(Mapping[str, Quantity]):
    """What a search may minimise, by the names that params.yaml's `search.objectives` lists."""

    def __getitem__(self, name: str) -> Quantity:
        for quantity in QUANTITIES.values():
            if name is not None and quantity.objective == name:
                return quantity
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (quantity.objective for quantity in QUANTITIES.values() if quantity.objective is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


OBJECTIVES = Objectives()

# The axes of the hypervolume, whatever the search minimises, so that curves are comparable.
BOX = ("clean_error", "robust_error", "flops")
