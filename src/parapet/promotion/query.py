"""Parses a wish, the line of text by which a user chooses a member of a front.

    knee
    weights: robust_accuracy 3, clean_accuracy 1, flops 0.5
    robust_accuracy >= 88%, latency_ms <= 0.2, then fewest FLOPs, then most robust_accuracy
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from parapet.catalogue.quantities import QUANTITIES, Quantity
from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import quote


@dataclass(frozen=True)
class Constraint:
    """A bound on a quantity, with its text as the user wrote it; `sign` is >=, <=, > or <."""

    text: str
    quantity: Quantity
    sign: str
    bound: float

    def met(self, candidate: dict[str, Any]) -> bool:
        """Whether `candidate` meets the constraint; False where the quantity was not measured."""
        value = self.quantity.of(candidate)
        return value is not None and _COMPARE[self.sign](value, self.bound)


@dataclass(frozen=True)
class Order:
    """A rule that sorts the remaining members by a quantity, the smallest first (`least`) or the largest."""

    quantity: Quantity
    least: bool

    def __str__(self) -> str:
        return f"{self.quantity.least if self.least else self.quantity.most} {self.quantity.title}"


@dataclass(frozen=True)
class Knee:
    """The wish "knee"."""


@dataclass(frozen=True)
class Weights:
    """Weights by quantity, each at least 0 and not all 0."""

    by_quantity: dict[Quantity, float]

    def __str__(self) -> str:
        return ", ".join(f"{quantity.name} {weight:g}" for quantity, weight in self.by_quantity.items())


@dataclass(frozen=True)
class Constraints:
    """Constraints that do not contradict each other, and the orders of the members that meet them, by priority."""

    constraints: tuple[Constraint, ...]
    orders: tuple[Order, ...]

    def __str__(self) -> str:
        return ", ".join(constraint.text for constraint in self.constraints)


_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_CONSTRAINT = re.compile(r"([A-Za-z][A-Za-z0-9_ ]*?)\s*(>=|<=|>|<)\s*(.*)")
_BOUND = re.compile(rf"({_NUMBER})\s*(%?)")
_WEIGHT = re.compile(rf"([A-Za-z][A-Za-z0-9_ ]*?)\s*[=:]?\s*({_NUMBER})")
_ORDER = re.compile(r"(?:(fewest|least|lowest|smallest)|most|highest|largest)\s+([A-Za-z][A-Za-z0-9_ ]*)",
                    re.IGNORECASE)
_LONGEST = 1000


def read(text: str) -> Knee | Weights | Constraints:
    """Parse a wish in any case and spacing. Raises InputError where it cannot be parsed or contradicts itself."""
    if len(text) > _LONGEST:
        raise InputError(f"the wish {quote(text)} has {len(text):,} characters; at most {_LONGEST:,} are read.")
    words = re.sub(r"(?<=\d),(?=\d{3}\b)", "", " ".join(text.split()))  # 10,000 is one number, not a list
    if words.lower() == "knee":
        return Knee()
    if re.match(r"knee\b", words, re.IGNORECASE):
        raise InputError(f"the wish {quote(text)} says more than knee, which stands alone; take the rest out, or write "
                         "constraints such as robust_accuracy >= 88%, then fewest FLOPs.")
    if re.match(r"weights\b", words, re.IGNORECASE):
        return _weights(words[len("weights"):].removeprefix(":"))
    first, *rest = re.split(r"\bthen\b", words, flags=re.IGNORECASE)
    constraints = tuple(_constraint(part.strip()) for part in first.strip(" ,").split(","))
    _refuse_contradiction(constraints)
    orders = tuple(_order(part.strip(" ,")) for part in rest)
    return Constraints(constraints, orders or (Order(QUANTITIES["flops"], least=True),))


def _quantity(words: str) -> Quantity | None:
    return QUANTITIES.get(words.strip().lower().replace(" ", "_"))


def _constraint(part: str) -> Constraint:
    match = _CONSTRAINT.fullmatch(part)
    quantity = _quantity(match[1]) if match else None
    if match is None or quantity is None:
        raise InputError(f"the constraint {quote(part)} cannot be read; write knee, or weights: QUANTITY NUMBER, or "
                         f"QUANTITY >= NUMBER (or <=, >, <) with one of {', '.join(QUANTITIES)}, several separated by "
                         "commas, and after constraints for example then fewest FLOPs.")
    sign, number = match[2], _BOUND.fullmatch(match[3])
    if not number:
        raise InputError(f"the constraint {quote(part)} has no number after {sign}; write for example {quantity.name} "
                         f"{sign} {quantity.example}.")
    if not number[2]:
        bound = float(number[1])
    elif quantity.is_share:
        bound = float(Decimal(number[1]) / 100)  # a float divided by 100 may not be the float nearest to the share
    else:
        raise InputError(f"the constraint {quote(part)} has a percentage, and only clean_accuracy and robust_accuracy "
                         "are shares; write a number.")
    if not math.isfinite(bound):
        raise InputError(f"the constraint {quote(part)} has a number that is too large; write for example "
                         f"{quantity.name} {sign} {quantity.example}.")
    if quantity.is_share and not 0 <= bound <= 1:
        hint = f"did you mean {bound:g}%?" if 0 < bound <= 100 and not number[2] else "write for example 0.88 or 88%."
        raise InputError(f"the constraint {quote(part)} lies outside of what an accuracy can be, 0 to 1; {hint}")
    return Constraint(part, quantity, sign, bound)


def _order(part: str) -> Order:
    if not part:
        raise InputError("the wish has the word then without an order behind it; write for example then fewest FLOPs, "
                         "or take the word out.")
    match = _ORDER.fullmatch(part)
    quantity = _quantity(match[2]) if match else None
    if match is None or quantity is None:
        raise InputError(f"the order 'then {named(part)}' cannot be read; write then fewest or then most, and one of "
                         f"{', '.join(QUANTITIES)}.")
    return Order(quantity, least=match[1] is not None)


def _weights(words: str) -> Weights:
    weights: dict[Quantity, float] = {}
    for part in (part.strip() for part in words.split(",")):
        match = _WEIGHT.fullmatch(part)
        quantity = _quantity(match[1]) if match else None
        if match is None or quantity is None:
            raise InputError(f"the weight {quote(part)} cannot be read; write for example weights: robust_accuracy 3, "
                             f"flops 0.5, with any of {', '.join(QUANTITIES)}.")
        if quantity in weights:
            raise InputError(f"the weight {quote(part)} is the second one of {quantity.name}; give each quantity one.")
        weights[quantity] = float(match[2])
        if not 0 <= weights[quantity] < math.inf:
            raise InputError(f"the weight {quote(part)} must be a number from 0 on; FLOPs, params and latency_ms count "
                             "against a member by themselves.")
    if not any(weights.values()):
        raise InputError("all weights are 0, and then nothing is better than anything else; give at least one quantity "
                         "a weight above 0.")
    return Weights(weights)


def _refuse_contradiction(constraints: Sequence[Constraint]) -> None:
    for low in constraints:
        for high in constraints:
            opposed = low.quantity == high.quantity and low.sign[0] == ">" and high.sign[0] == "<"
            touching = low.bound == high.bound and (low.sign, high.sign) != (">=", "<=")
            if opposed and (low.bound > high.bound or touching):
                raise InputError(f"{named(low.text)} and {named(high.text)} contradict each other, since no number "
                                 "meets both; change one of them.")
