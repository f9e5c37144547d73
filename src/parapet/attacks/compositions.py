"""Attacks with names and budgets, and the published compositions of AutoAttack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from parapet.attacks.apgd import apgd
from parapet.attacks.fab import fab
from parapet.attacks.square import square
from parapet.errors import InputError

# Croce and Hein 2020, section 5: iterations, target classes and queries of the ensemble.
_STEPS, _TARGETS, _QUERIES = 100, 9, 5000


@dataclass(frozen=True)
class Attack:
    """A named attack of a suite; `minimum_norm` attacks count as successful where their distance is within eps.

    With `takes_eps` a minimum-norm attack is told the radius, so that it leaves images alone that it broke within it.
    """

    name: str
    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    minimum_norm: bool = False
    takes_eps: bool = False


def auto_attack_suite(version: str = "standard") -> list[Attack]:
    """The attacks of AutoAttack in their order; `version` is "standard", "plus" or "rand".

    "rand" is for models whose randomness is averaged by `Eot`, which gives it the 20 draws of the published version.
    """
    apgd_ce = Attack("apgd_ce", apgd, {"steps": _STEPS, "loss": "ce"})
    apgd_dlr = Attack("apgd_dlr", apgd, {"steps": _STEPS, "loss": "dlr"})
    apgd_t = Attack("apgd_t", apgd, {"steps": _STEPS, "targets": _TARGETS})
    fab_t = Attack("fab_t", fab, {"steps": _STEPS, "targets": _TARGETS}, minimum_norm=True, takes_eps=True)
    square_5000 = Attack("square", square, {"queries": _QUERIES})
    if version == "standard":
        return [apgd_ce, apgd_t, fab_t, square_5000]
    if version == "plus":
        restarted = {"restarts": 5}
        return [Attack("apgd_ce", apgd, {**apgd_ce.options, **restarted}),
                Attack("apgd_dlr", apgd, {**apgd_dlr.options, **restarted}),
                Attack("fab", fab, {"steps": _STEPS, "targets": None, **restarted}, minimum_norm=True, takes_eps=True),
                square_5000, apgd_t, fab_t]
    if version == "rand":
        return [apgd_ce, apgd_dlr]
    raise InputError(f"version is {version!r}; allowed: standard, plus, rand.")
