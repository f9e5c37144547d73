"""Chooses one candidate of a front, with the reason: the knee, the best by weights, or the one that meets constraints.

All numbers are those of the validation split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from parapet.catalogue.quantities import BOX, OBJECTIVES, Quantity
from parapet.errors import InputError
from parapet.promotion import query
from parapet.promotion.query import Constraint, Constraints, Knee, Weights
from parapet.search.front import ties

_KNEE = tuple(OBJECTIVES[name] for name in BOX)
_NAMED_TIES = 3
_DIGITS = 9  # smaller differences are rounding errors


def select(candidates: Sequence[dict[str, Any]], wish: str) -> tuple[dict[str, Any], str]:
    """(candidate, the reason in a sentence) for `wish`, out of a front's members (archive records or front.json's).

    "knee" is the member from which every other one loses more than it gains. "weights: QUANTITY NUMBER, ..." is the
    best by the weighted sum of the quantities, each scaled to the front's own range, FLOPs, parameters and latency as
    logarithms. Constraints ("robust_accuracy >= 88%, latency_ms <= 0.2, then fewest FLOPs") leave the members that
    meet all of them; each "then" breaks the ties of the order before it, and the fewest FLOPs break the last ones. A
    latency that was not measured (null) meets no constraint. The reason also names the members whose 95 % intervals of
    clean and of robust accuracy both overlap the chosen one's.

    Raises InputError for an empty front and for a wish that cannot be read, contradicts itself or is not met; in the
    last case it names the nearest member and the constraints that it misses.
    """
    if not candidates:
        raise InputError("the front has no members to choose from; search longer, or with looser constraints.")
    asked = query.read(wish)
    if isinstance(asked, Knee):
        chosen, reason = _knee(candidates)
    elif isinstance(asked, Weights):
        chosen, reason = _weighted(candidates, asked)
    else:
        chosen, reason = _constrained(candidates, asked)
    return chosen, f"{chosen['id']} {reason}{_ties(chosen, candidates)}."


def _knee(candidates: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The member furthest below the plane through the worst values of the front, each objective scaled to [0, 1].

    This is the knee of Das (1999, "On characterizing the knee of the Pareto curve based on normal-boundary
    intersection"), with the plane through the ends of the ranges on the axes instead of through the best member of
    each objective: clean and robust accuracy are often best in the same member, and two points span no plane. The
    same member has the largest worst trade-off (Rachmawati and Srinivasan 2009; pymoo's HighTradeoffPoints, with every
    member as a neighbour), and no other member's is above 1, because what a move loses less what it gains is the
    difference of two distances from that plane. The member nearest to the ideal corner is a balanced compromise and
    not a knee: moving away from it may gain more than it loses. A front of two has every objective at 0 or at 1, which
    says nothing about trade-offs, so the more robust member is chosen.
    """
    losses = np.stack([_losses(candidates, quantity) for quantity in _KNEE], axis=1)
    if len(candidates) == 1:
        chosen, why = candidates[0], "it is the only member"
    elif len(candidates) == 2:
        chosen = candidates[_lowest(candidates, losses[:, 1])]
        why = "of its 2 members it is the more robust one, or the cheaper one where they are equal"
    else:
        place = _lowest(candidates, losses.sum(axis=1))
        chosen, moves = candidates[place], losses - losses[place]
        lost, gained = np.maximum(moves, 0).sum(axis=1), np.maximum(-moves, 0).sum(axis=1)
        ratios = lost[gained > 0] / gained[gained > 0]
        why = (f"in shares of the front's ranges, going to any other of its {len(candidates)} members loses at least "
               f"{ratios.min():.2f} times what it gains" if len(ratios) else
               f"none of the other {len(candidates) - 1} members is better than it in anything")
    return chosen, f"is the knee of the front ({_numbers(chosen, _KNEE)}): {why}"


def _weighted(candidates: Sequence[dict[str, Any]], asked: Weights) -> tuple[dict[str, Any], str]:
    largest = max(asked.by_quantity.values())
    # Divided by the largest first: the sum of very large weights would overflow.
    shares = {quantity: weight / largest for quantity, weight in asked.by_quantity.items() if weight > 0}
    compared = [candidate for candidate in candidates if all(quantity.of(candidate) is not None for quantity in shares)]
    if not compared:
        unmeasured = _listed([quantity.name for quantity in shares
                              if all(quantity.of(candidate) is None for candidate in candidates)] or ["value of each"])
        raise InputError(f"no member of the front has a measured {unmeasured}, so weights cannot compare by it; leave "
                         "it out of the weights.")
    losses = cast(np.ndarray, sum(share * _losses(compared, quantity) for quantity, share in shares.items()))
    losses = losses / math.fsum(shares.values())
    place = _lowest(compared, losses)
    left_out = len(candidates) - len(compared)
    return compared[place], (
        f"scores {1 - losses[place]:.3f} of 1, the best of {len(compared)} members of the front by the weights {asked} "
        f"({_numbers(compared[place], shares)})"
        + (f", with {left_out} left out because not all of these were measured" if left_out else ""))


def _constrained(candidates: Sequence[dict[str, Any]], asked: Constraints) -> tuple[dict[str, Any], str]:
    meeting = [candidate for candidate in candidates
               if all(constraint.met(candidate) for constraint in asked.constraints)]
    if not meeting:
        raise InputError(f"no member of the front meets {asked}; the nearest is "
                         f"{_nearest(candidates, asked.constraints)}; loosen a bound, or search longer.")
    for order in asked.orders:
        if all(order.quantity.of(candidate) is None for candidate in meeting):
            raise InputError(f"no member of the front that meets {asked} has a measured {order.quantity.name}; leave "
                             f"'then {order}' out.")

    def rank(candidate: dict[str, Any]) -> tuple[Any, ...]:
        values = [(order.quantity.of(candidate), 1 if order.least else -1) for order in asked.orders]
        return (*[(value is None, sign * (value or 0)) for value, sign in values], candidate["flops"], candidate["id"])

    chosen = min(meeting, key=rank)
    bounded = dict.fromkeys(constraint.quantity for constraint in asked.constraints)
    if len(meeting) == 1:
        return chosen, (f"is the only one of {len(candidates)} members of the front that meets {asked} "
                        f"({_numbers(chosen, bounded)})")
    orders = ", then ".join(f"the {order} ({_shown(chosen, order.quantity)})" for order in asked.orders)
    unsaid = [quantity for quantity in bounded if quantity not in [order.quantity for order in asked.orders]]
    return chosen, (f"has {orders} of the {len(meeting)} out of {len(candidates)} members of the front that meet "
                    f"{asked}" + (f" ({_numbers(chosen, unsaid)})" if unsaid else ""))


def _nearest(candidates: Sequence[dict[str, Any]], constraints: Sequence[Constraint]) -> str:
    """The member that misses the constraints by least, in shares of the front's ranges: its id and what it misses."""
    def miss(candidate: dict[str, Any]) -> tuple[int, float, int, str]:
        missed = [(constraint.quantity, constraint.quantity.of(candidate), constraint.bound)
                  for constraint in constraints if not constraint.met(candidate)]
        gaps = [abs(quantity.position(value) - quantity.position(bound)) / _range(candidates, quantity)
                for quantity, value, bound in missed if value is not None]
        return len(missed) - len(gaps), sum(gaps), candidate["flops"], candidate["id"]

    nearest = min(candidates, key=miss)
    # Six digits: a value that misses a bound by one image must not look as if it met it.
    return f"{nearest['id']}, which misses " + _listed([
        f"{constraint.text} ({'it has ' * (constraint.quantity.of(nearest) is not None)}"
        f"{_shown(nearest, constraint.quantity, 6)})" for constraint in constraints if not constraint.met(nearest)])


def _ties(chosen: dict[str, Any], candidates: Sequence[dict[str, Any]]) -> str:
    """The clause about members that the validation images cannot distinguish from `chosen`; empty if there are none."""
    others = ties(chosen, candidates)
    if not others:
        return ""
    counts = [candidate["validation"]["n"] for candidate in candidates if candidate["id"] in (chosen["id"], *others)]
    images = " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
    if len(others) == 1:
        return f"; {chosen['id']} and {others[0]} cannot be told apart on {images} images"
    named, more = others[:_NAMED_TIES], len(others) - _NAMED_TIES
    return (f"; {chosen['id']} cannot be told apart from {_listed(named + [f'{more} more'] * (more > 0))} on {images} "
            "images")


def _range(candidates: Sequence[dict[str, Any]], quantity: Quantity) -> float:
    values = [quantity.position(value) for candidate in candidates if (value := quantity.of(candidate)) is not None]
    return (max(values) - min(values) if values else 0.0) or 1.0


def _losses(candidates: Sequence[dict[str, Any]], quantity: Quantity) -> np.ndarray:
    """(N,) the loss of each candidate in a quantity: 0 for the best, 1 for the worst; all 0 where all are equal.

    The quantity must have been measured for all candidates.
    """
    values = np.array([quantity.position(cast(float, quantity.of(candidate))) for candidate in candidates])
    behind = values.max() - values if quantity.more_is_better else values - values.min()
    losses: np.ndarray = behind / _range(candidates, quantity)
    return losses


def _lowest(candidates: Sequence[dict[str, Any]], losses: np.ndarray) -> int:
    """The index of the candidate with the smallest loss; of equal ones, the one with the fewest FLOPs."""
    return min(range(len(candidates)), key=lambda place: (
        round(float(losses[place]), _DIGITS), candidates[place]["flops"], candidates[place]["id"]))


def _shown(candidate: dict[str, Any], quantity: Quantity, digits: int = 4) -> str:
    value = quantity.of(candidate)
    if value is None:
        return "not measured"
    return f"{value:,}" if quantity.is_count else f"{value:.{digits}g}"


def _numbers(candidate: dict[str, Any], quantities: Iterable[Quantity]) -> str:
    return _listed([f"{quantity.title} {_shown(candidate, quantity)}" for quantity in quantities])


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
