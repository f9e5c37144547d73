"""Chooses one member of a front, by a wish (a selection rule, see `query`) or by its id."""

from __future__ import annotations

from typing import Any

from parapet.errors import InputError
from parapet.promotion.selection import select
from parapet.quoting import quote


def choose(front: dict[str, Any], wish: str, candidate: str | None = None) -> tuple[dict[str, Any], str]:
    """(member of front.json, the reason in a sentence): chosen by `wish`, or the one whose id begins with `candidate`.

    Raises InputError for a wish that no member meets (the message names the nearest one), and for an unknown id.
    Variants are not chosen, because only an upper bound of their robustness is known.
    """
    members = front["candidates"]
    if candidate is None:
        return select(members, wish)
    own, variants = ([entry for entry in front[name] if candidate and entry["id"].startswith(candidate)]
                     for name in ("candidates", "variants"))
    if len(own) == 1:
        return own[0], f"{own[0]['id']} was given by its id."
    if variants and not own:
        whole = variants[0]["derived_from"]
        raise InputError(f"{variants[0]['id']} is a variant of {whole}, of whose robustness only an upper bound is "
                         f"known; promote {whole}.")
    raise InputError(f"{quote(candidate)} is {'not the id of a' if not own else 'the beginning of more than one'} "
                     f"member of the front; its members are {', '.join(member['id'] for member in members)}.")
