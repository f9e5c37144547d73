"""Checks of a plugin's declaration, so that its mistakes are found before a search begins."""

from __future__ import annotations

import re
from dataclasses import fields
from types import ModuleType
from typing import Any

from parapet.catalogue.genes import GENES, Gene
from parapet.catalogue.losses import Loss, Weight
from parapet.catalogue.networks import Backbone
from parapet.catalogue.quantities import OBJECTIVES, Quantity
from parapet.quoting import words

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def problem(one: Any, module: ModuleType) -> str | None:
    """What is wrong with the declaration `one` of `module`, a clause that follows its name; None where it is valid."""
    if not isinstance(one.name, str) or not _NAME.fullmatch(one.name):
        return "whose name has to be small letters, digits and _, beginning with a letter"
    if (wrong := _references(one, module)) is not None:
        return wrong
    if isinstance(one, Loss) and not all(isinstance(weight, Weight) for weight in one.weights):
        return "whose weights have to be a tuple of Weight"
    if isinstance(one, Backbone) and (type(one.stages) is not int or one.stages < 1):
        return "whose stages has to be a whole number of at least 1"
    if isinstance(one, Gene):
        return _gene(one)
    return _quantity(one) if isinstance(one, Quantity) else None


def _references(one: Any, module: ModuleType) -> str | None:
    """Checks references to the module itself; other modules are imported where they are used."""
    for item in fields(one):
        value = getattr(one, item.name)
        if item.name in ("function", "builder", "reader", "source") and value is not None:
            if not isinstance(value, str) or value.count(":") != 1:
                return f"whose {item.name} has to be a text \"module:function\""
            place, _, name = value.partition(":")
            if place == module.__name__ and not hasattr(module, name):
                return f"whose {item.name} is {value}, and {place} has no {name}"
    return None


def _gene(gene: Gene) -> str | None:
    if not gene.choices:
        return "which has no choices"
    if gene.words is None and not all(isinstance(bound, int | float) for bound in (gene.low, gene.highest)):
        return "which has numbers as choices and needs low and high, the bounds of what params.yaml may list"
    if gene.has_effect is None:
        return None if gene.neutral is not None else (
            "which needs neutral, the value that changes nothing: genomes that lack the gene have it")
    if gene.off is None:
        return "which needs off, the value that it has where it has no effect"
    try:
        gene.has_effect({name: other.choices[0] for name, other in GENES.items()})
    except Exception as error:  # a plugin may raise anything
        return f"whose has_effect fails ({type(error).__name__}: {words(error)})"
    return None


def _quantity(quantity: Quantity) -> str | None:
    if quantity.objective is not None and quantity.objective in OBJECTIVES:
        return f"whose objective {quantity.objective} is another quantity's"
    if quantity.more_is_better and (quantity.floor is not None or quantity.unit != "share"):
        return "which is more_is_better and has to be a share without a floor"
    return None
